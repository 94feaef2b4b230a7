"""Bodies of webhook events, one method a type: nested as a code host nests them, and made up throughout.

Everything comes from the dice that are handed in, so equal dice give equal bodies. No account, address or repository
exists: `example.com` and the `.test` hosts are kept free for this.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

ACCOUNTS, REPOSITORIES, ORGANISATIONS = 60, 24, 4
BEGAN = datetime(2026, 1, 5, 6, 0, tzinfo=UTC)
HOST = "https://code.test"
API = "https://api.code.test"
WORDS_TEXT = """
add after allow an answer away batch before between block bound build cache check clean close commit config copy
count cursor delay domain drop edge empty entry error every field file first fix flush from group guard handle
index into keep key last later lease limit line lock log merge message move name note offset once only order
page path plan queue range read record refuse release remove replay retry route row same schema see send set
sink size sort source split stage start stop store table task test text tidy time token trim type under unit
update value voter wait when where while without witness write zone
"""
WORDS = WORDS_TEXT.split()
LABELS = ("bug", "build", "docs", "help wanted", "performance", "question", "safety", "storage")
# Paths of a repository's own links, as such hosts repeat them in every event.
LINKS_TEXT = """
archive assignees blobs branches collaborators comments commits compare contents contributors deployments
downloads events forks hooks issues keys labels languages merges milestones notifications pulls releases
stargazers statuses subscribers subscription tags teams trees
"""
LINKS = LINKS_TEXT.split()
USER_LINKS = (
    "followers",
    "following",
    "gists",
    "starred",
    "subscriptions",
    "organizations",
    "repos",
    "events",
    "received_events",
)


class Bodies:
    """Makes bodies; time goes on from one to the next."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._now = BEGAN
        self._serial = 1_000_000

    # --- the types

    def push(self) -> dict[str, Any]:
        commits = [self._commit() for _ in range(self._few(1, 30))]
        branch = f"refs/heads/{self._branch()}" if self._dice.random() < 0.9 else f"refs/tags/v{self._version()}"
        author = commits[-1]["author"]
        return {
            "ref": branch,
            "before": self._sha(),
            "after": commits[-1]["id"],
            "created": False,
            "deleted": False,
            "forced": self._dice.random() < 0.1,
            "compare": f"{HOST}/compare/{self._sha()[:12]}...{commits[-1]['id'][:12]}",
            "commits": commits,
            "head_commit": commits[-1],
            "pusher": {"name": author["username"], "email": author["email"]},
            **self._around(),
        }

    def pull_request(self) -> dict[str, Any]:
        action = self._dice.choice(("opened", "synchronize", "labeled", "closed", "closed"))
        pull = self._pull_request(closed=action == "closed")
        return {"action": action, "number": pull["number"], "pull_request": pull, **self._around()}

    def pull_request_review(self) -> dict[str, Any]:
        review = {
            "id": self._id(),
            "user": self._account(),
            "body": self._text(5, 120),
            "commit_id": self._sha(),
            "submitted_at": self._time(),
            "state": self._dice.choice(("approved", "changes_requested", "commented")),
        }
        pull = self._pull_request(closed=False)
        return {"action": "submitted", "review": review, "pull_request": pull, **self._around()}

    def issues(self) -> dict[str, Any]:
        action = self._dice.choice(("opened", "edited", "labeled", "closed", "reopened"))
        return {"action": action, "issue": self._issue(), **self._around()}

    def issue_comment(self) -> dict[str, Any]:
        comment = {
            "id": self._id(),
            "user": self._account(),
            "created_at": self._time(),
            "body": self._text(5, 300),
            "reactions": self._reactions(),
        }
        return {"action": "created", "issue": self._issue(), "comment": comment, **self._around()}

    def workflow_run(self) -> dict[str, Any]:
        around = self._around()
        run = {
            "id": self._id(),
            "name": self._dice.choice(("build", "lint", "nightly", "publish")),
            "head_branch": self._branch(),
            "head_sha": self._sha(),
            "run_number": self._dice.randrange(1, 4000),
            "run_attempt": self._few(1, 4),
            "event": self._dice.choice(("push", "schedule", "pull_request")),
            "status": "completed",
            "conclusion": self._dice.choice(("success", "success", "success", "failure", "cancelled")),
            "run_started_at": self._time(),
            "updated_at": self._time(),
            "actor": self._account(),
            "triggering_actor": self._account(),
            "pull_requests": [self._reference() for _ in range(self._few(0, 3))],
            "head_commit": self._commit(),
            "head_repository": around["repository"],
        }
        workflow = {"id": self._id(), "name": run["name"], "path": f".ci/{run['name']}.yml", "state": "active"}
        return {"action": "completed", "workflow_run": run, "workflow": workflow, **around}

    def check_run(self) -> dict[str, Any]:
        application = {"id": self._id(), "slug": "checks", "owner": self._account(), "permissions": {"checks": "write"}}
        suite = {"id": self._id(), "head_branch": self._branch(), "head_sha": self._sha(), "app": application}
        annotations = [
            {"path": self._path(), "start_line": self._dice.randrange(1, 400), "message": self._text(5, 30)}
            for _ in range(self._few(0, 12))
        ]
        output = {"title": self._text(3, 8), "summary": self._text(20, 200), "annotations": annotations}
        run = {
            "id": self._id(),
            "name": self._dice.choice(("types", "format", "coverage")),
            "status": "completed",
            "conclusion": self._dice.choice(("success", "neutral", "failure")),
            "output": output,
            "check_suite": {**suite, "pull_requests": [self._reference() for _ in range(self._few(0, 2))]},
            "completed_at": self._time(),
        }
        return {"action": "completed", "check_run": run, **self._around()}

    def release(self) -> dict[str, Any]:
        assets = [
            {
                "id": self._id(),
                "name": f"package-{self._version()}.tar.gz",
                "size": self._dice.randrange(1_000, 90_000_000),
                "uploader": self._account(),
                "state": "uploaded",
            }
            for _ in range(self._few(1, 5))
        ]
        release = {
            "id": self._id(),
            "tag_name": f"v{self._version()}",
            "author": self._account(),
            "draft": False,
            "prerelease": self._dice.random() < 0.3,
            "assets": assets,
            "body": self._text(30, 400),
            "published_at": self._time(),
        }
        return {"action": "published", "release": release, **self._around()}

    def star(self) -> dict[str, Any]:
        return {"action": "created", "starred_at": self._time(), **self._around()}

    def ping(self) -> dict[str, Any]:
        config = {"content_type": "json", "insecure_ssl": "0", "url": f"{HOST}/hooks"}
        hook = {"type": "Organization", "id": self._id(), "active": True, "events": ["*"], "config": config}
        return {"hook_id": hook["id"], "hook": hook, "sender": self._account()}

    # --- what several of them hold

    def _around(self) -> dict[str, Any]:
        number = self._dice.randrange(ORGANISATIONS)
        organisation = {"login": f"org-{number}", "id": 700 + number, "url": f"{API}/orgs/org-{number}"}
        return {"repository": self._repository(), "organization": organisation, "sender": self._account()}

    def _repository(self) -> dict[str, Any]:
        number = self._dice.randrange(REPOSITORIES)
        owner = number % ORGANISATIONS
        name = f"org-{owner}/service-{number:02}"
        return {
            "id": 900_000 + number,
            "name": f"service-{number:02}",
            "full_name": name,
            "private": number % 3 == 0,
            "owner": {"login": f"org-{owner}", "id": 700 + owner, "type": "Organization"},
            "html_url": f"{HOST}/{name}",
            **{f"{link}_url": f"{API}/repos/{name}/{link}{{/number}}" for link in LINKS},
            "default_branch": "main",
            "topics": [self._dice.choice(WORDS) for _ in range(self._few(0, 6))],
            "license": {"key": "apache-2.0", "spdx_id": "Apache-2.0"},
            "open_issues_count": self._dice.randrange(400),
        }

    def _account(self) -> dict[str, Any]:
        number = self._dice.randrange(ACCOUNTS)
        login = f"account-{number:02}"
        links = {f"{link}_url": f"{API}/users/{login}/{link}" for link in USER_LINKS}
        return {"login": login, "id": 5_000 + number, "type": "User", "site_admin": False, **links}

    def _pull_request(self, *, closed: bool) -> dict[str, Any]:
        number = self._dice.randrange(1, 5000)
        url = f"{API}/pulls/{number}"
        ends = {}
        for end in ("head", "base"):
            repository = self._repository()
            where = {"ref": self._branch(), "sha": self._sha(), "user": self._account(), "repo": repository}
            ends[end] = {"label": f"{repository['owner']['login']}:{where['ref']}", **where}
        return {
            "id": self._id(),
            "number": number,
            "state": "closed" if closed else "open",
            "title": self._text(4, 9),
            "user": self._account(),
            "body": self._text(10, 900),
            "labels": self._labels(),
            "requested_reviewers": [self._account() for _ in range(self._few(0, 3))],
            **ends,
            "_links": {name: {"href": f"{url}/{name}"} for name in ("self", "html", "issue", "comments", "commits")},
            "merged": closed and self._dice.random() < 0.7,
            "additions": self._dice.randrange(2_000),
            "deletions": self._dice.randrange(900),
            "changed_files": self._few(1, 40),
            "created_at": self._time(),
        }

    def _issue(self) -> dict[str, Any]:
        return {
            "id": self._id(),
            "number": self._dice.randrange(1, 5000),
            "title": self._text(3, 10),
            "user": self._account(),
            "labels": self._labels(),
            "assignees": [self._account() for _ in range(self._few(0, 4))],
            "milestone": {"title": self._version(), "creator": self._account()} if self._dice.random() < 0.5 else None,
            "comments": self._dice.randrange(60),
            "created_at": self._time(),
            "body": self._text(10, 600),
            "reactions": self._reactions(),
        }

    def _commit(self) -> dict[str, Any]:
        number = self._dice.randrange(ACCOUNTS)
        author = {"name": f"Account {number}", "email": f"account-{number:02}@example.com"}
        author["username"] = f"account-{number:02}"
        sha = self._sha()
        return {
            "id": sha,
            "tree_id": self._sha(),
            "distinct": True,
            "message": self._text(4, 60),
            "timestamp": self._time(),
            "url": f"{HOST}/commit/{sha}",
            "author": author,
            "committer": author,
            **{
                change: [self._path() for _ in range(self._few(0, most))]
                for change, most in (("added", 3), ("removed", 2), ("modified", 7))
            },
        }

    def _reference(self) -> dict[str, Any]:
        ends = {end: {"ref": self._branch(), "sha": self._sha()} for end in ("head", "base")}
        return {"id": self._id(), "number": self._dice.randrange(1, 5000), **ends}

    def _labels(self) -> list[dict[str, Any]]:
        names = self._dice.sample(LABELS, self._few(0, 4))
        return [{"id": 40 + LABELS.index(name), "name": name, "color": "d73a4a", "default": False} for name in names]

    def _reactions(self) -> dict[str, int]:
        return {name: self._few(0, 5) for name in ("+1", "-1", "laugh", "heart", "rocket", "eyes")}

    # --- small things

    def _few(self, least: int, most: int) -> int:
        """Returns a number of this range, small ones more often."""
        return least + int((most - least + 1) * self._dice.random() ** 2)

    def _text(self, least: int, most: int) -> str:
        return " ".join(self._dice.choices(WORDS, k=self._few(least, most)))

    def _branch(self) -> str:
        return "main" if self._dice.random() < 0.4 else "-".join(self._dice.choices(WORDS, k=3))

    def _path(self) -> str:
        return "/".join(self._dice.choices(WORDS, k=self._few(2, 5))) + ".py"

    def _version(self) -> str:
        return ".".join(str(self._dice.randrange(20)) for _ in range(3))

    def _sha(self) -> str:
        return f"{self._dice.getrandbits(160):040x}"

    def _id(self) -> int:
        self._serial += self._dice.randrange(1, 90)
        return self._serial

    def _time(self) -> str:
        self._now += timedelta(seconds=self._dice.randrange(1, 9))
        return self._now.strftime("%Y-%m-%dT%H:%M:%SZ")
