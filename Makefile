# make test   everything, with real Redis servers
# make lint   what CI lints
# make demo   kv demo

.PHONY: test redis lint demo

test: redis
	go test -race -shuffle=on -timeout 20m ./...

# redis installs redis-server if it is missing and the user may. Tests start
# private servers themselves; without the binary those that need one are
# skipped and say so.
redis:
	@command -v redis-server >/dev/null && exit 0; \
	as=; [ "$$(id -u)" = 0 ] || as="sudo -n"; \
	if command -v apt-get >/dev/null && $$as true 2>/dev/null; then \
		$$as apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive $$as apt-get install -y -qq --no-install-recommends redis-server >/dev/null; \
	elif command -v brew >/dev/null; then brew install redis; \
	else echo "redis-server is missing and cannot be installed by this user: tests that need it are skipped"; fi

GOLANGCI = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

lint:
	GOBIN=$(CURDIR)/.tools go install $(GOLANGCI)
	.tools/golangci-lint run ./...

demo:
	go run ./cmd/kv demo
