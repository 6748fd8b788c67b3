from stages.lib.params.base import section


@section
class ExportParams:
    """`datasets.<name>.export`."""
