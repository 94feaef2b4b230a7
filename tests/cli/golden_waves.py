"""The command lines of waves whose JSON is held still, in a store of their own."""

F, ON, AT = "examples/switchover.toml", "--store ./waved", "-d aws/us-east-1"
MADE = """
[wave]
name = "w"
window = "1ms"
grace = "0"
[[consumer]]
name = "billing"
source = "old"
target = "new"
shape = "orders"
risk = "low"
[[domain]]
name = "aws/us-east-1"
[[queue]]
name = "old"
replicas = { o = "aws/us-east-1" }
allow = ["aws"]
group = [{ name = "billing", allow = ["aws"] }]
[[queue]]
name = "new"
replicas = { n = "aws/us-east-1" }
allow = ["aws"]
group = [{ name = "billing", allow = ["aws"] }]
"""

WAVES = [
    (0, f"consumer plan {F}", ""),
    (78, "consumer plan wrong.toml", ""),
    (2, "consumer plan absent.toml", ""),
    (10, f"consumer plan {F} {ON}", ""),
    (0, f"apply wave.toml {ON}", ""),
    (0, f"consumer plan wave.toml {ON}", ""),
    (0, f"consumer wave wave.toml {ON} {AT} --dry-run", ""),
    (15, f"consumer wave wave.toml {ON} {AT}", ""),
    (11, f"consumer wave wave.toml {ON} -d gcp --yes", ""),
    (10, f"consumer wave {F} {ON} {AT} --yes", ""),
    (78, f"consumer wave wrong.toml {ON} {AT}", ""),
    (0, f"publish old a --id 1 {ON} {AT}", ""),
    (19, f"consumer wave wave.toml {ON} {AT} --yes", ""),
    (0, f"consumer plan wave.toml {ON}", ""),
    (0, f"publish new a --id 1 {ON} {AT}", ""),
    (0, f"consumer wave wave.toml {ON} {AT} --yes -o jsonl", ""),
    (0, f"consumer wave wave.toml {ON} {AT}", ""),
]
