"""Every decision leaves a record without its text, and trouble with the disk is defined."""

import hashlib
import hmac
import json
import resource
import threading
from pathlib import Path

import pytest

from chat_gateway.audit import AuditTrail
from chat_gateway.chat import GuardUnavailable
from chat_gateway.observer import Action, Outcome
from chat_gateway.pipeline import ChatPipeline
from chat_gateway.policy import GatewayPolicy
from guard_service.moderation import ConfigurationError
from tests.chat_gateway.conversing import Journal, asking
from tests.chat_gateway.decisions import TEXT, decision
from tests.chat_gateway.fakes import FakeGuard, ScriptedGenerator, verdict

KEY = b"a key of the right length"


class Tally:
    """Counts records, and tells when so many are settled."""

    def __init__(self) -> None:
        self.results: list[str] = []
        self.num_failures = 0
        self.changed = threading.Condition()

    def audit_record(self, result: str) -> None:
        with self.changed:
            self.results.append(result)
            self.changed.notify_all()

    def audit_write_failed(self) -> None:
        with self.changed:
            self.num_failures += 1
            self.changed.notify_all()

    def wait_for_failure(self) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.num_failures, timeout=30)

    def wait_for_records(self, number: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.results) >= number, timeout=30)


def trail_to(path: Path, tally: Tally, *, max_waiting: int = 100) -> AuditTrail:
    return AuditTrail(path, KEY, max_waiting=max_waiting, metrics=tally)


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_record_says_what_was_decided_and_by_what(tmp_path: Path):
    path, tally = tmp_path / "audit.jsonl", Tally()
    with trail_to(path, tally) as trail:
        trail.decided(decision(Action.BLOCKED, judged=verdict(0.9)))

    [record] = records(path)
    assert (record["request_id"], record["action"], record["phase"], record["choice"]) == (
        "r1",
        "blocked",
        "response",
        0,
    )
    assert (record["gateway_policy"], record["mode"]) == ("default", "strict")
    assert record["num_characters"] == len(TEXT)
    assert record["verdict"]["unsafe_probability"] == 0.9
    assert record["verdict"]["categories"] == {"S9": 0.8}
    assert record["verdict"]["policy"]["digest"] == "d" * 64
    assert tally.results == ["written"]


def test_the_text_is_there_as_a_keyed_digest_only(tmp_path: Path):
    path = tmp_path / "audit.jsonl"
    with trail_to(path, Tally()) as trail:
        trail.decided(decision())

    [record] = records(path)
    assert TEXT not in path.read_text(encoding="utf-8")
    expected = hmac.new(KEY, TEXT.encode(), hashlib.sha256).hexdigest()
    assert record["text_hmac_sha256"] == expected


def test_text_that_is_no_unicode_is_recorded_too(tmp_path: Path):
    path = tmp_path / "audit.jsonl"
    with trail_to(path, Tally()) as trail:
        trail.decided(decision(text="\ud800"))

    assert len(records(path)) == 1


def test_a_decision_without_a_verdict_gives_the_reason(tmp_path: Path):
    path = tmp_path / "audit.jsonl"
    with trail_to(path, Tally()) as trail:
        trail.decided(decision(Action.BLOCKED, judged=None, reason="NotReady"))

    [record] = records(path)
    assert (record["verdict"], record["reason"]) == (None, "NotReady")


def test_records_are_for_their_owner_alone(tmp_path: Path):
    path = tmp_path / "audit.jsonl"
    with trail_to(path, Tally()):
        assert path.stat().st_mode & 0o777 == 0o600


def test_records_are_added_to_what_is_there(tmp_path: Path):
    path = tmp_path / "audit.jsonl"
    for _ in range(2):
        with trail_to(path, Tally()) as trail:
            trail.decided(decision())

    assert len(records(path)) == 2


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path):
    path, tally = tmp_path / "audit.jsonl", Tally()
    with trail_to(path, tally) as trail:
        trail.decided(decision(request_id="old"))
        tally.wait_for_records(1)
        path.rename(tmp_path / "audit.1")
        trail.decided(decision(request_id="new"))

    assert [record["request_id"] for record in records(tmp_path / "audit.1")] == ["old"]
    assert [record["request_id"] for record in records(path)] == ["new"]


def test_a_file_that_cannot_be_opened_ends_the_start(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="GATEWAY_AUDIT_FILE"):
        trail_to(tmp_path / "no" / "such" / "folder", Tally())


def test_on_a_full_disk_decisions_go_on_and_what_does_not_fit_the_queue_is_counted():
    tally = Tally()
    with trail_to(Path("/dev/full"), tally, max_waiting=2) as trail:
        trail.decided(decision())
        tally.wait_for_failure()
        for _ in range(5):
            trail.decided(decision())

        assert not trail.is_working
        assert tally.results.count("dropped") == 3

    assert tally.results == ["dropped"] * 6


def test_records_that_waited_for_the_disk_are_written_once_it_has_room(tmp_path: Path):
    path, tally = tmp_path / "audit.jsonl", Tally()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with trail_to(path, tally) as trail:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # a disk that ends mid-line
            trail.decided(decision(request_id="first"))
            tally.wait_for_failure()
            trail.decided(decision(request_id="second"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        tally.wait_for_records(2)
        assert trail.is_working

    assert [record["request_id"] for record in records(path)] == ["first", "second"]
    assert tally.results == ["written", "written"]


async def test_required_records_close_the_gateway_while_they_cannot_be_written():
    generator, journal = ScriptedGenerator([]), Journal()
    with trail_to(Path("/dev/full"), tally := Tally()) as trail:
        pipeline = ChatPipeline(FakeGuard(), generator, journal, trail)
        trail.decided(decision())
        tally.wait_for_failure()

        with pytest.raises(GuardUnavailable, match="audit_required"):
            await anext(pipeline.chat(asking(), GatewayPolicy(), request_id="r", deadline=0.0))

    assert generator.requests == []
    assert journal.outcomes == [Outcome.GUARD_UNAVAILABLE]
