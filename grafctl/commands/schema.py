"""`schema`: what records must look like."""

from grafctl.commands import options
from grafctl.commands.declared import Annotated, Argument

SchemaId = Annotated[
    str,
    Argument(metavar="ID", help="Id that queues and topics name", parser=options.name_of("schema"), show_default=False),
]
File = Annotated[
    str, Argument(metavar="FILE", help="JSON Schema document", parser=options.path_text, show_default=False)
]


def add(
    schema: SchemaId,
    file: File,
    store: options.StorePath,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    output: options.Output = "table",
) -> None:
    """Bind an id to a JSON Schema

    From then on what is published to queues and topics of this schema must conform, or is refused (17). A document may
    refer to itself only. It stays as it is: another one takes another id.

    Example: grafctl schema add order.v1 examples/order.v1.schema.json
    """
    from grafctl import client, interruption, render

    with interruption.change(dry_run), client.open(store) as opened:
        change = opened.schemas.add_file(schema, file, dry_run=dry_run)
        render.show(change, output, json)


def list_(store: options.StorePath, json: options.Json = False, output: options.Output = "table") -> None:
    """List the schemas

    Changes nothing.

    Example: grafctl schema list
    """
    from grafctl import client, render

    with client.open(store) as opened:
        listed = opened.schemas.list()

    render.show(listed, output, json)


def show(
    schema: SchemaId, store: options.StorePath, json: options.Json = False, output: options.Output = "table"
) -> None:
    """Show a schema with its document

    Changes nothing.

    Example: grafctl schema show order.v1
    """
    from grafctl import client, render

    with client.open(store) as opened:
        shown = opened.schemas.show(schema)

    render.show(shown, output, json)
