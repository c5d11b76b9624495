"""What docs/command-line.md shows: one session, in this order, each line run as it stands."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """A line of bash. `keep`: a variable that gets the first id in its output; `lines_max`: the rest is left out."""

    line: str
    keep: str | None = None
    lines_max: int = 16


@dataclass(frozen=True)
class Section:
    title: str
    says: str
    steps: tuple[Step, ...]


SESSION = (
    Section(
        "The local stack",
        "Everything on this machine, in one folder (`.bigdata`, or BIGDATA_HOME). The other commands find it by "
        "themselves.",
        (
            Step("bigdata up", lines_max=14),
            Step("bigdata status", lines_max=24),
            Step("bigdata demo", lines_max=60),
            Step("bigdata logs gateway --lines 2"),
            Step("bigdata whoami"),
        ),
    ),
    Section(
        "Query",
        "`-w` takes `=`, `!=`, `>=`, `<=`, `>`, `<`, `^=` (prefix), `~=` (contains) or `FIELD:OPERATOR=VALUE`. Rows "
        "go to stdout, what they cost to stderr.",
        (
            Step("bigdata datasets list"),
            Step("bigdata datasets show people", lines_max=22),
            Step(
                "bigdata query people -w country=IN -w 'age>=18' -s first_name,city,age --sort 'age DESC' -n 3",
                keep="QUERY",
            ),
            Step("bigdata receipt $QUERY"),
            Step("bigdata query flights --range dep_delay=300.. -s carrier,flight,dep_delay --quote", lines_max=8),
            Step("bigdata query people --fuzzy first_name=prath -s first_name,city -n 2 --json", lines_max=30),
            Step("bigdata query flights --group-by carrier --metric n='count()' --metric late='avg(dep_delay)' -n 3"),
            Step("bigdata query flights -w origin=JFK -w dest=LAX -s time_hour,carrier,dep_delay -n 3 -o csv"),
            Step(
                "bigdata query people --follow -n 1000 -w country=IN -w city=Delhi -w age=42 -s email -o ndjson | wc -l"
            ),
            Step("bigdata query flights -n 100000 -o parquet --to flights.parquet"),
            Step('echo \'{"sort": "distance DESC", "limit": 1}\' | bigdata query flights --body - -s origin,dest'),
            Step("bigdata query people -w agee=3"),
        ),
    ),
    Section(
        "Load files",
        "Files, patterns or stdin; progress bars on a terminal. The exit code says how it ended: 0 loaded, 7 loaded "
        "with rejected rows, 1 failed.",
        (
            Step("printf 'email,age\\nann@example.com,42\\nno address,17\\n' > new.csv"),
            Step("bigdata ingest new.csv --dataset people", keep="UPLOAD"),
            Step("bigdata uploads list"),
            Step("bigdata uploads show $UPLOAD", lines_max=20),
            Step("bigdata uploads watch $UPLOAD", lines_max=20),
            Step("bigdata quarantine list"),
            Step("bigdata quarantine list $UPLOAD"),
            Step("bigdata quarantine download $UPLOAD --format csv"),
            Step("bigdata quarantine replay $UPLOAD --dry-run"),
            Step("bigdata uploads undo $UPLOAD --yes", lines_max=20),
            Step("bigdata datasets check"),
        ),
    ),
    Section(
        "Your account",
        "",
        (
            Step("bigdata credits balance"),
            Step("bigdata credits statement -n 3"),
            Step("bigdata usage --days 7"),
            Step("bigdata keys create laptop --days 90", keep="KEY"),
            Step("bigdata keys list"),
            Step("bigdata keys rotate $KEY --grace 60", keep="KEY"),
            Step("bigdata keys revoke $KEY"),
        ),
    ),
    Section(
        "Administration",
        "With an admin's key. `bigdata admin` has `users`, `credits`, `uploads` and `quarantine` once more, and what "
        "only admins ask for.",
        (
            Step("bigdata users create ann --credits 50"),
            Step("bigdata users list"),
            Step("bigdata users show ann"),
            Step("bigdata credits grant ann 25 --reason 'a trial'"),
            Step("bigdata credits set ann 60"),
            Step("bigdata credits ledger -n 3"),
            Step("bigdata users rotate ann --grace 3600"),
            Step("bigdata users role ann viewer"),
            Step("bigdata users disable ann"),
            Step("bigdata users enable ann"),
            Step("bigdata erase --dataset people --email ananya.brown.0@example.com --yes"),
            Step("bigdata admin stats"),
            Step("bigdata admin logs --status 4xx -n 3"),
            Step("timeout 10 bigdata logs --tail & sleep 5; bigdata whoami > /dev/null; wait"),
            Step("bigdata reconcile"),
            Step("bigdata dead-letters list"),
            Step("bigdata dead-letters replay"),
        ),
    ),
    Section(
        "Other installations",
        "A profile is an address with keys, in a file that only its owner may read. `--key -` asks for the key instead "
        "of leaving it in the shell's history.",
        (
            Step("bigdata profile set staging --url https://bigdata.example.com --key bd_not_a_real_key"),
            Step("bigdata profile list"),
            Step("bigdata profile use staging"),
            Step("bigdata profile remove staging"),
        ),
    ),
    Section(
        "Away with it",
        "",
        (
            Step("bigdata backup demo.backup"),
            Step("bigdata down --purge"),
            Step("bigdata restore demo.backup --folder restored"),
            Step("bigdata status --folder restored"),
        ),
    ),
)
