"""What a worker of nano-graphrag does to a store, with nothing but the
standard library.

    python_worker.py redis HOST:PORT    commands come on stdin, a JSON array a line
    python_worker.py file PATH ID       adds a document to a file, and prints what was there
"""
import json
import socket
import sys


class Redis:
    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.replies = self.socket.makefile("rb")

    def call(self, *args):
        parts = [a if isinstance(a, bytes) else str(a).encode() for a in args]
        self.socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))
        return self.reply()

    def reply(self):
        line = self.replies.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            return None if rest == b"-1" else self.replies.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        if kind in (b"-", b""):
            raise RuntimeError(line)
        return rest


def document(who, n):
    return {"who": who, "n": n, "float": 1.0, "big": 2**70, "none": None, "text": "é 😀 \u2028 \x7f \x01 < & / \\ \" " * (1 + n % 3)}


def upsert(redis, prefix, who, n, ttl):
    key, value = prefix + "%s-%d é:*" % (who, n), json.dumps(document(who, n), default=str)
    if ttl > 0:
        redis.call("SETEX", key, ttl, value)
    else:
        redis.call("SET", key, value)


def write(redis, prefix, who, numbers, ttl):
    """Each is read back at once; who loses one says so."""
    for n in numbers:
        upsert(redis, prefix, who, n, ttl if n % 2 else 0)
        found = redis.call("GET", prefix + "%s-%d é:*" % (who, n))
        if found is None or json.loads(found) != document(who, n):
            raise RuntimeError("lost %s %d" % (who, n))
    return len(numbers)


def read(redis, prefix, who):
    """The numbers of all documents of somebody, each of which must be right."""
    cursor, keys = b"0", set()
    while True:
        cursor, page = redis.call("SCAN", cursor, "MATCH", prefix + "*", "COUNT", 1000)
        keys.update(page)
        if cursor == b"0":
            break
    numbers = []
    for key in keys:
        name = key.decode()[len(prefix):]
        if name.startswith(who + "-"):
            value = json.loads(redis.call("GET", key))
            if value != document(who, value["n"]) or name != "%s-%d é:*" % (who, value["n"]):
                raise RuntimeError("misread %r" % value)
            numbers.append(value["n"])
    return sorted(numbers)


def serve(redis):
    for line in sys.stdin:
        command, prefix, who, *rest = json.loads(line)
        if command == "write":
            first, last, step, ttl = rest
            answer = write(redis, prefix, who, range(first, last, step), ttl)
        else:
            answer = read(redis, prefix, who)
        print(json.dumps(answer), flush=True)


def add_to_file(path, name):
    with open(path, encoding="utf-8") as f:
        docs = json.load(f)
    print(json.dumps(docs))
    docs[name] = document("python", 7)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(docs, f, indent=2, ensure_ascii=False)


if sys.argv[1] == "redis":
    serve(Redis(sys.argv[2]))
else:
    add_to_file(sys.argv[2], sys.argv[3])
