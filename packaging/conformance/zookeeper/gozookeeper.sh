#!/bin/sh
# Runs go-zookeeper's own tests against cairn. Its harness starts "zkServer.sh start-foreground CONFIG" found in
# ZOOKEEPER_BIN_PATH; gozookeeper/bin/zkServer.sh is that script here. It kills what it starts.
. "$(dirname "$0")/server.sh"
cairn_binary "$@"

module=$(cd "$here" && go list -m -f '{{.Dir}}' github.com/go-zookeeper/zk)
mkdir "$work/zk"
cp "$module"/*.go "$module/go.mod" "$work/zk/"
chmod -R u+w "$work/zk"
skip=$(grep -v '^#' "$here/gozookeeper/skip.txt" | awk 'NF {print "^" $1 "$"}' | paste -sd'|' -)

cd "$work/zk"
GOFLAGS=-mod=mod GOWORK=off go vet . >"$work/vet.log" 2>&1 || true # builds; its findings are not ours
status=0
CAIRN="$bin" ZK_VERSION=3.9.5 ZOOKEEPER_BIN_PATH="$here/gozookeeper/bin" GOFLAGS=-mod=mod GOWORK=off \
	go test -count=1 -timeout 600s -json -skip "$skip" ${GOZOOKEEPER_RUN:+-run "$GOZOOKEEPER_RUN"} . >"$work/test.json" 2>"$work/test.err" || status=$?
python3 - "$work/test.json" "$here/gozookeeper/skip.txt" <<'PY'
import json, sys
results, output = {}, {}
for line in open(sys.argv[1]):
    try:
        e = json.loads(line)
    except ValueError:
        continue
    name = e.get("Test")
    if not name or "/" in name:
        continue
    if e["Action"] == "output":
        output.setdefault(name, []).append(e["Output"])
    elif e["Action"] in ("pass", "fail", "skip"):
        results[name] = e["Action"]
for name in output:
    results.setdefault(name, "fail")
for name, result in sorted(results.items()):
    print(result, name)
    if result == "fail":
        sys.stdout.write("".join(output.get(name, [])[-60:]))
skipped = [line.split()[0] for line in open(sys.argv[2]) if line.strip() and not line.startswith("#")]
for name in skipped:
    print("listed for several servers:", name)
passed = sum(r == "pass" for r in results.values())
failed = sum(r == "fail" for r in results.values())
print(f"{passed} passed, {failed} failed")
sys.exit(0 if passed and not failed else 1)
PY
[ "$status" -eq 0 ] || { cat "$work/test.err" >&2; exit "$status"; }
