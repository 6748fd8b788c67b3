import pytest

from stages.lib.core.errors import UserError
from tests.fake_forge import FakeForge
from tools import forge


@pytest.fixture(params=["github", "gitlab"])
def host(request):
    server = FakeForge()
    yield server, forge.here(getattr(server, request.param)())
    server.shutdown()
    server.server_close()


def test_there_is_one_comment_which_is_edited(host):
    server, ours = host
    assert forge.comment(ours, "# First") == "commented"
    assert forge.comment(ours, "# Second") == "edited the comment"
    assert [comment["body"] for comment in server.comments] == [f"{forge.MARK}\n# Second"]


def test_the_comment_is_found_behind_a_hundred_others(host):
    server, ours = host
    server.comments += [{"id": i + 1, "body": "I like it"} for i in range(150)]
    forge.comment(ours, "# First")
    forge.comment(ours, "# Second")
    assert len(server.comments) == 151
    assert server.comments[150]["body"].endswith("# Second")


def test_a_page_that_is_too_long_for_a_comment_is_cut_at_a_line(host):
    server, ours = host
    forge.comment(ours, "a line of the page\n" * 10_000)
    body = server.comments[0]["body"]
    assert len(body) < 65_536
    assert body.splitlines()[-3:-2] == ["a line of the page"] and "cut here" in body.splitlines()[-1]


def test_a_pull_request_is_opened_once_and_then_updated(host):
    server, ours = host
    assert forge.propose(ours, "other", "Something else", "") == "opened a pull request"
    assert forge.propose(ours, "retrain", "Retrain", "better") == "opened a pull request"
    assert forge.propose(ours, "retrain", "Retrain again", "worse") == "updated the pull request"
    assert [entry["title"] for entry in server.pull_requests] == ["Something else", "Retrain again"]
    assert server.pull_requests[1][ours.body] == "worse" and server.pull_requests[1][ours.target] == "main"


def test_a_token_that_may_not_write_is_said(host):
    server, ours = host
    server.token = "another"
    with pytest.raises(UserError, match="403 Forbidden: the token may not write here\n.*not accessible"):
        forge.comment(ours, "# First")


def test_outside_of_a_job_the_missing_variable_is_named():
    with pytest.raises(UserError, match="GITHUB_REPOSITORY is not set"):
        forge.here({})
    with pytest.raises(UserError, match="GITLAB_TOKEN is not set"):
        forge.here({"CI_API_V4_URL": "http://127.0.0.1:9", "CI_PROJECT_ID": "1"})


def test_a_host_that_is_not_there_is_one_message():
    with pytest.raises(UserError, match="GET http://127.0.0.1:9/repos/a/b/issues/1/comments"):
        environment = {"GITHUB_API_URL": "http://127.0.0.1:9", "GITHUB_REPOSITORY": "a/b", "GITHUB_TOKEN": "t"}
        forge.comment(forge.here(environment | {"PULL_REQUEST": "1"}), "text")
