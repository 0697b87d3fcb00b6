# Every target installs what is missing (as root, on Debian) and can be the
# first command in a fresh clone. The work is in scripts/.

.PHONY: help demo stop test lint build bench chaos clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo    three nodes on this machine and a narrated run of the main job'
	@echo 'make stop    stops the nodes that the demo left running'
	@echo 'make test    every test, the official clients, and the pages in a real browser'
	@echo 'make lint    format, clippy, documentation, house rules'
	@echo 'make build   the binary for production, target/dist/cardea; it takes twice as long as that of the demo'
	@echo 'make bench   the load generator, beside etcd (arguments in BENCH=...)'
	@echo 'make chaos   the scoreboard: real processes under harm, as root (rows in CHAOS=...)'
	@echo 'make clean   removes what was built here (the RocksDB library stays in the cache)'

demo:
	@scripts/demo

stop:
	@scripts/demo stop

test:
	@scripts/test $(TEST)

lint:
	@scripts/lint

build:
	@scripts/build

bench:
	@scripts/bench $(BENCH)

chaos:
	@scripts/chaos $(CHAOS)

clean:
	@scripts/demo stop
	rm -rf target .cardea-dev
