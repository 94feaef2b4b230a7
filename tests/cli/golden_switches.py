"""The command lines of switches whose JSON is held still, in a store of their own."""

ON, AT = "--store ./switching", "-d aws/us-east-1"
MAKE = "--schema s --replica a=aws/us-east-1 --replica g=gcp/us-central1 --allow aws"
TIE = f"consumer attach billing --source old --target new --group billing {ON}"

SWITCHES = [
    (0, "init ./switching -d aws/us-east-1 -d gcp/us-central1", ""),
    (0, f"queue create old {MAKE} {ON}", ""),
    (0, f"queue create new {MAKE} {ON}", ""),
    (0, f"consumer status {ON}", ""),
    (10, TIE, ""),
    (0, f"consumer create old billing --allow aws {ON}", ""),
    (0, f"consumer create new billing --allow aws {ON}", ""),
    (2, f"{TIE} --match offset", ""),
    (2, f"{TIE} --max-error-rate 2", ""),
    (0, f"{TIE} --dry-run", ""),
    (0, TIE, ""),
    (0, TIE, ""),
    (13, f"{TIE} --match key", ""),
    (0, f"consumer report billing {ON}", ""),
    (11, f"consumer compare billing -d gcp/us-central1 {ON}", ""),
    (2, f"consumer compare billing --compare-from then {AT} {ON}", ""),
    (2, f"consumer compare billing --grace 8d {AT} {ON}", ""),
    (10, f"consumer compare absent {AT} {ON}", ""),
    (10, f"consumer report absent {ON}", ""),
    (0, f"publish old one --id a {AT} {ON}", ""),
    (0, f"publish old two --id b {AT} {ON}", ""),
    (0, f"publish new other --id a {AT} {ON}", ""),
    (0, f"consumer compare billing --grace 0 --dry-run {AT} {ON}", ""),
    (0, f"consumer compare billing --grace 0 {AT} {ON}", ""),
    (3, f"consumer compare billing --exit-code {AT} {ON}", ""),
    (0, f"consumer report billing {ON}", ""),
    (0, f"consumer compare billing --compare-from now --exit-code {AT} {ON}", ""),
    (0, f"consumer status {ON}", ""),
    (0, f"consumer status billing {ON}", ""),
    (10, f"consumer status absent {ON}", ""),
    (10, f"consumer detach absent --yes {ON}", ""),
    (15, f"consumer detach billing {ON}", ""),
    (0, f"consumer detach billing --dry-run {ON}", ""),
    (0, f"consumer detach billing --yes {ON}", ""),
    (10, f"consumer detach billing --yes {ON}", ""),
]
