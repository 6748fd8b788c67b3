from stages.lib.params.base import section


@section
class DatasetParams:
    """`datasets.<name>.dataset`."""
