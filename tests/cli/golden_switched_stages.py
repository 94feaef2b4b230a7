"""The command lines of a stage behind a switch whose JSON is held still, in a store of its own."""

P, ON, AT = "examples/pipeline.toml", "--store ./moved", "-d aws/us-east-1"
MAY = "--allow aws --allow gcp"
COPIES = f"--replica a=aws/us-east-1 --replica g=gcp/us-central1 {MAY}"
ORDER = '{"id":2,"tenant":"t","status":"paid","total":"12.30"}'
TIE = f"consumer attach clean --source raw-orders --target new-orders --group clean --window 0 {ON}"

SWITCHED_STAGES = [
    (0, f"apply {P} {ON}", ""),
    (0, f"queue create new-orders --schema s {COPIES} {ON}", ""),
    (0, f"consumer create new-orders clean {MAY} --semantics effectively-once {ON}", ""),
    (0, f"publish raw-orders '{ORDER}' --id b --key t/2 {AT} {ON}", ""),
    (0, f"publish new-orders '{ORDER}' --id b --key t/2 {AT} {ON}", ""),
    (0, TIE, ""),
    (0, f"pipeline run {P} {AT} {ON} --stage clean --dry-run", ""),
    (0, f"consumer switch clean --to target {AT} {ON}", ""),
    (0, f"pipeline plan {P} {ON}", ""),
    (0, f"pipeline run {P} {AT} {ON} --stage clean --once", ""),
    (0, f"pipeline status {P} {ON}", ""),
    (0, f"pipeline tap {P} clean --input {AT} {ON}", ""),
    (0, f"consumer rollback clean {AT} {ON}", ""),
    (0, f"consumer detach clean --yes {ON}", ""),
    (0, f"{TIE} --match key", ""),
    (0, f"consumer switch clean --to target --drain 1s {AT} {ON}", ""),
    (22, f"pipeline run {P} {AT} {ON} --stage clean --until-idle", ""),
    (0, f"pipeline status {P} {ON} --json", ""),
    (3, f"pipeline validate {P} {ON} --live --exit-code", ""),
    (0, f"consumer lock clean --yes {AT} {ON}", ""),
    (13, f"pipeline run {P} {AT} {ON} --stage clean --until-idle", ""),
]
