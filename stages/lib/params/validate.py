from stages.lib.params.base import section


@section
class ValidateParams:
    """`datasets.<name>.validate`."""
