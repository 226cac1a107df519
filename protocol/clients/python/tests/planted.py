"""Plants one bug after the other in a copy of the client, and sees that a scenario of the conformance kit finds it.

    python3 tests/planted.py [NAME...]        needs $QUEUED for the one that runs against a real node

Exit 0 if every bug was found by the scenario that is named here.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import List, NamedTuple

HERE = Path(__file__).parents[1]
KIT = HERE.parent / "conformance" / "run"


class Bug(NamedTuple):
    name: str
    file: str
    right: str
    wrong: str
    scenario: str


BUGS = [
    Bug("a_repeat_has_another_number", "_pursuit.py", "session.stamp(number)", "session.stamp(number + self.failures)",
        "leader_dies_mid_request"),
    Bug("the_index_is_renewed", "_session.py", "if self._index is None:", "if True:", "index_is_never_renewed"),
    Bug("a_forgotten_session_in_doubt_is_done_anew", "_pursuit.py",
        "if error.code in FORGOTTEN and self.doubt is not None:", "if False:", "session_expired_in_doubt"),
    Bug("too_old_is_a_refusal", "_pursuit.py", "frozenset({Code.TOO_OLD, Code.SESSION_EXPIRED})",
        "frozenset({Code.SESSION_EXPIRED})", "window_forgotten_in_doubt"),
    Bug("a_new_session_has_the_old_id", "_core.py", "self.session = Session(self.cluster)",
        "self.session, self.session.id = Session(self.cluster), old.id", "session_expired_before"),
    Bug("no_doubt_after_not_confirmed", "_pursuit.py", "raise OutcomeUnknown(f\"{self.doubt}; then {text}\")",
        "raise Refused.of(error)", "window_forgotten_in_doubt"),
    Bug("a_refused_number_is_overtaken", "_pursuit.py", "session.refuse(number)", "pass", "overloaded_is_not_overtaken"),
    Bug("nobody_is_told_of_an_end", "_connection.py", "self._send(_frame.pack(request_id, _frame.CANCEL))", "pass",
        "unknown_outcome_stays"),
    Bug("no_answer_is_a_failure", "_pursuit.py", "self.doubt = f\"sent to {address}: {why}\"", "pass",
        "unknown_outcome_stays"),
    Bug("hints_are_not_followed", "_pursuit.py", "self.hint = view", "pass", "follower_answers_hello"),
    Bug("no_wait_between_tries", "_pursuit.py", "await asyncio.sleep(wait)", "await asyncio.sleep(0)", "nobody_leads"),
    Bug("silence_is_not_noticed", "_connection.py", "SILENCE_MAX = 4", "SILENCE_MAX = 400", "silent_leader"),
    Bug("contents_are_not_checked", "_connection.py", "if [spec.crc32c for spec in _specs(response)] != checksums:",
        "if False:", "corrupt_content"),
    Bug("the_last_piece_is_a_message", "_frame.py", "and (frame.request_id, frame.kind) not in self._parts", "",
        "answer_in_pieces"),
    Bug("a_goodbye_is_not_heard", "_connection.py",
        "self.gone = NotSent(f\"the node leaves: {error.message}\", error)", "pass", "node_stops"),
    Bug("a_hello_refused_for_now_ends_it", "_pursuit.py", "if isinstance(refused.error.retry, _common.Never):", "if True:",
        "node_joins"),
    Bug("a_hurried_lease_waits_on", "_pursuit.py", "        self.wait = 0.0\n        self.request = _with_wait(self.request, 0.0)\n",
        "", "parked_lease_called_back"),
    Bug("a_parked_lease_is_not_called_back", "_pursuit.py", "raise _Hurried", "raise self.out_of_time()",
        "parked_lease_called_back"),
    Bug("a_stale_receipt_is_fine", "_message.py", "if settled != _answer.Settled.OK:", "if False:", "lease_is_lost"),
    Bug("what_is_refused_in_part_is_left_out", "_message.py", "* outcome.count", "* 0", "part_refused"),
    Bug("any_certificate_will_do", "_tls.py", "context.load_verify_locations(self._ca)",
        "context.check_hostname, context.verify_mode = False, ssl.CERT_NONE", "tls_other_authority"),
    Bug("any_name_will_do", "_tls.py", "context.load_verify_locations(self._ca)",
        "context.load_verify_locations(self._ca); context.check_hostname = False", "tls_other_name"),
    Bug("any_key_will_do", "_tls.py", "if not hmac.compare_digest(seen, self._pin):", "if False:", "tls_other_key"),
    Bug("an_older_tls_will_do", "_tls.py", "ssl.TLSVersion.TLSv1_3", "ssl.TLSVersion.TLSv1_2", "tls_too_old"),
    Bug("nothing_is_said_of_the_protocol", "_tls.py", "        context.set_alpn_protocols([ALPN])\n", "", "tls"),
    Bug("the_leader_is_dialed_in_the_clear", "_pursuit.py", "self.core.tls,", "self.core.tls if not self.tried else None,", "tls"),
    Bug("no_trust_is_no_reach", "_pursuit.py", "        if isinstance(self.unfit, Untrusted):\n            return self.unfit\n", "",
        "tls_leader_is_a_stranger"),
    Bug("tls_is_left_out", "_connection.py", "                raise _tls.failure(error) from None",
        "                transport, self = await loop.create_connection(lambda: cls(loop), host, port)", "tls_is_not_left_out"),
    Bug("leases_are_not_renewed", "_consumer.py", "RENEW_BELOW = 2 / 3", "RENEW_BELOW = -1", "lease_renewed"),
]  # fmt: skip


def is_found(bug: Bug) -> bool:
    """The scenario fails with the bug."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory)
        shutil.copytree(HERE / "src", copy / "src")
        (copy / "tests").mkdir()
        shutil.copy(HERE / "tests" / "driver.py", copy / "tests" / "driver.py")
        file = copy / "src" / "queued" / bug.file
        source = file.read_text()
        if bug.right not in source:
            raise SystemExit(f"{bug.name}: {bug.file} has no {bug.right!r} any more")
        file.write_text(source.replace(bug.right, bug.wrong))
        command = [sys.executable, str(KIT), "--only", bug.scenario, "--", sys.executable, str(copy / "tests" / "driver.py")]
        run = subprocess.run(command, capture_output=True, text=True)
        return run.returncode == 1 and f"FAILED {bug.scenario}" in run.stdout


def main(names: List[str]) -> int:
    missed = 0
    for bug in BUGS:
        if names and bug.name not in names:
            continue
        found = is_found(bug)
        missed += not found
        print(f"{'found ' if found else 'MISSED'} {bug.name} by {bug.scenario}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
