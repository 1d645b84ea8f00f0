# make test   everything that matters, with real Redis servers: two minutes
# make check  all the rest of what CI asks: races, every proof in its full
#             length, network faults, what watches kv, lint
# make lint   what CI lints
# make soak   the long proofs: a hundred thousand kills, ten minutes a fuzz target
# make demo   kv demo
# make dashboards  the dashboard for Grafana, from internal/dashboard
# make prometheus  what the proof of the dashboard needs (Debian); without it
#                  that test is skipped

# WATCHING are the modules of what watches kv. They need Prometheus and
# OpenTelemetry, which a user of kv does not get.
WATCHING = kvprom kvotel monitoring

.PHONY: test check soak redis lint demo dashboards prometheus

# With -short the proofs try a part of what they try one by one.
test: redis
	go test -short -shuffle=on -timeout 10m ./...

# What tries less in a short run in full, with the numbers of
# docs/reliability.md, and then everything under the race detector, which makes them ten times as long: they
# are short again there, and memory is not measured.
check: redis lint
	go test -shuffle=on -timeout 20m ./internal/jsonstore ./internal/flock ./cmd/kv
	go test -shuffle=on -timeout 20m -run 'Memory|Crowd' ./internal/redisstore
	go test -shuffle=on -timeout 20m -run '^Test(JSON|Model|Crowd|Migrate|Merge|Import|FleetSaves|ComputeIsLinear)' . ./kvmove
	go test -race -short -shuffle=on -timeout 20m ./...
	@set -e; for module in $(WATCHING); do echo "== $$module"; (cd $$module && go test -race -short -shuffle=on -timeout 20m ./...); done
	cd internal/toxic && go test -race -timeout 10m ./...
	cd internal/toxic && go test -timeout 10m ./...
	cd internal/sdk && go test -timeout 10m ./...

# soak takes hours. Each stage can be run by itself.
soak: redis
	scripts/strace-faults
	KV_SOAK_KILLS=100000 go test -timeout 6h -v -run '^TestJSONKill$$' .
	KV_SOAK_SEEDS=500 go test -timeout 6h -v -run '^TestJSONCrashEverywhere$$' ./internal/jsonstore
	KV_SOAK_FAILOVERS=13 go test -timeout 2h -v -run 'FailoverRounds$$' .
	KV_SOAK_STRANGERS=600 go test -timeout 2h -v -run '^TestRedisStrangers$$' .
	go test -timeout 1h ./internal/jsonscan -run '^$$' -fuzz '^FuzzReader$$' -fuzztime 10m
	go test -timeout 1h ./internal/jsonscan -run '^$$' -fuzz '^FuzzProject$$' -fuzztime 10m
	go test -timeout 1h ./internal/jsonscan -run '^$$' -fuzz '^FuzzCheck$$' -fuzztime 10m
	go test -timeout 1h ./internal/wal -run '^$$' -fuzz '^FuzzReader$$' -fuzztime 10m
	@set -e; for target in Canonical Document ParseAnswer Events Rows Judge; do \
		go test -timeout 1h ./kvllm -run '^$$' -fuzz "^Fuzz$$target$$" -fuzztime 10m; done
	go test -timeout 1h ./cmd/kv -run '^$$' -fuzz '^FuzzSamples$$' -fuzztime 10m

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

dashboards:
	cd monitoring && go run ./generate

# prometheus installs Debian's Prometheus and redis_exporter, 25 MB. Their
# services are not wanted, and are stopped where systemd has started them.
prometheus:
	@command -v prometheus >/dev/null && command -v prometheus-redis-exporter >/dev/null && exit 0; \
	as=; [ "$$(id -u)" = 0 ] || as="sudo -n"; \
	if command -v apt-get >/dev/null && $$as true 2>/dev/null; then \
		$$as apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive $$as apt-get install -y -qq --no-install-recommends prometheus prometheus-redis-exporter >/dev/null && \
		{ [ ! -d /run/systemd/system ] || $$as systemctl disable --now prometheus prometheus-redis-exporter; }; \
	else echo "prometheus is missing and cannot be installed by this user: the proof of the dashboard is skipped"; fi

GOLANGCI = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

lint:
	GOBIN=$(CURDIR)/.tools go install $(GOLANGCI)
	.tools/golangci-lint run ./...
	@set -e; for module in $(WATCHING); do echo "== $$module"; (cd $$module && ../.tools/golangci-lint run ./...); done

demo:
	go run ./cmd/kv demo
