from stages.lib.core.nearest import closest, hint


def test_the_nearest_name_is_suggested_and_all_are_listed_where_none_is_near():
    assert hint("widht", ["depth", "width"]) == "did you mean width?"
    assert hint("colour", ["depth", "width"]) == "known are depth, width"
    assert hint("colour", []) == ""


def test_how_near_is_near_can_be_chosen():
    assert closest("dep", ["width", "depth"], cutoff=0.9) is None
    assert closest("dep", ["width", "depth"]) == "depth"
