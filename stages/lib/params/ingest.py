from stages.lib.params.base import section


@section
class IngestParams:
    """`datasets.<name>.ingest`."""
