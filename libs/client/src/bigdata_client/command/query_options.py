"""The options of `bigdata query`, with what the help says of each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bigdata_client.command.query_answer import Form

Dataset = Annotated[str | None, typer.Argument(help="The dataset; `bigdata datasets list` names them.")]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", "-w", help="country=IN, age>=18, email^=ann; repeat for AND, FIELD=A FIELD=B for OR."),
]
Range = Annotated[
    list[str] | None, typer.Option("--range", help="FIELD=FROM..TO, both inclusive, either may be absent.")
]
Fuzzy = Annotated[
    list[str] | None, typer.Option("--fuzzy", help="FIELD=TEXT contained in any case; FIELD=TEXT@0.6 similar.")
]
Select = Annotated[list[str] | None, typer.Option("--select", "-s", help="Columns: email,city.")]
Sort = Annotated[list[str] | None, typer.Option("--sort", help='"age DESC"; repeat for further ones.')]
Limit = Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Rows of a page, or of a stream.")]
Offset = Annotated[int | None, typer.Option("--offset", min=0, help="Rows to skip.")]
Cursor = Annotated[str | None, typer.Option("--cursor", help="Where an earlier page ended.")]
Count = Annotated[str | None, typer.Option("--count", help="exact or none.")]
GroupBy = Annotated[list[str] | None, typer.Option("--group-by", help="Aggregate by these columns.")]
Metric = Annotated[list[str] | None, typer.Option("--metric", help="NAME=FUNCTION, e.g. n='count()' or a='avg(age)'.")]
MaxCredits = Annotated[float | None, typer.Option("--max-credits", help="Refuse to cost more.")]
Body = Annotated[
    str | None, typer.Option("--body", "-b", help="The whole query as JSON in a file, - for stdin; flags win.")
]
As = Annotated[Form | None, typer.Option("--output", "-o", help="How the rows are written.")]
To = Annotated[Path | None, typer.Option("--to", help="A file instead of stdout; it appears when it is whole.")]
Follow = Annotated[bool, typer.Option("--follow", help="Every page to the last, following cursors. Each page costs.")]
Quote = Annotated[bool, typer.Option("--quote", help="Say what it would cost, and run nothing.")]
WaitForUpload = Annotated[str | None, typer.Option("--wait-for-upload", help="Wait until this upload is visible.")]
