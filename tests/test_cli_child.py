"""The emulator as a child: it says where it is, it ends with us however we end, and why it ended is told."""

import os
import select
import signal
import subprocess
import sys

import pytest

from market_maker.cli.child import EmulatorEnded, child_process

READY = 'import sys; print(\'{"url": "http://127.0.0.1:1"}\', flush=True); '
PATIENCE_S = 30.0


def child(script: str) -> list[str]:
    return [sys.executable, "-c", script]


def test_it_says_where_it_is_and_ends_when_it_is_left():
    with child_process(child(READY + "sys.stdin.read()")) as emulator:
        assert emulator.wait_for_url() == "http://127.0.0.1:1"
        emulator.end()


@pytest.mark.parametrize(
    ("script", "why", "code"),
    [
        ("import sys; print('mm: port taken', file=sys.stderr); sys.exit(3)", "^port taken$", 3),
        ("import sys; sys.exit(5)", "ended with exit code 5$", 5),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended by SIGKILL$", -9),
        ("print('hello', flush=True); input()", "expected the emulator to say its URL, was b'hello", -9),
    ],
)
def test_one_that_does_not_start_says_why(script, why, code):
    with child_process(child(script)) as emulator, pytest.raises(EmulatorEnded, match=why) as raised:
        emulator.wait_for_url()
    assert raised.value.exit_code == code


def test_one_that_dies_later_is_noticed_on_its_output():
    with child_process(child(READY + "sys.stdin.readline(); sys.exit('mm: broken')")) as emulator:
        emulator.wait_for_url()
        os.kill(emulator.pid, signal.SIGKILL)
        assert select.select([emulator.output], [], [], PATIENCE_S)[0]
        assert emulator.hear() == "the emulator ended"
        with pytest.raises(EmulatorEnded, match="the emulator ended by SIGKILL"):
            emulator.end()


def test_what_it_said_before_anybody_listened_is_heard():
    script = READY + 'print(\'{"failed": "line 1"}\', flush=True); sys.stdin.read()'
    with child_process(child(script)) as emulator:
        emulator.wait_for_url()
        assert select.select([emulator.output], [], [], PATIENCE_S)[0]
        assert emulator.hear() == "line 1"


@pytest.mark.parametrize(
    ("said", "heard"), [("more", ""), ('{"failed": "line 7"}', "line 7"), ('{"failed": 7}', "")]
)
def test_it_says_when_its_market_is_gone_and_lives_on(said, heard):
    more = f"import signal; signal.signal(signal.SIGUSR1, lambda *_: print({said!r}, flush=True)); "
    with child_process(child(more + READY + "sys.stdin.read(); sys.exit(4)")) as emulator:
        emulator.wait_for_url()
        os.kill(emulator.pid, signal.SIGUSR1)
        assert select.select([emulator.output], [], [], PATIENCE_S)[0]
        assert emulator.hear() == heard
        with pytest.raises(EmulatorEnded, match="exit code 4"):
            emulator.end()


def test_no_key_of_ours_is_its_business(monkeypatch):
    monkeypatch.setenv("MM_API_KEY", "swordfish")
    script = "import os, sys; sys.exit(' '.join(name for name in os.environ if name.startswith('MM_')) or 7)"
    with child_process(child(script)) as emulator, pytest.raises(EmulatorEnded) as raised:
        emulator.wait_for_url()
    assert raised.value.exit_code == 7


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="watches the child through pidfd")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_us_even_when_we_are_killed(number):
    """The parent says its child's id, waits, and is killed; the child's output then comes to its end."""
    script = (
        "import os, sys, time\n"
        "from market_maker.cli.child import child_process\n"
        f"with child_process([sys.executable, '-c', {READY + 'sys.stdin.read()'!r}]) as emulator:\n"
        "    emulator.wait_for_url()\n"
        "    print(emulator.pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(child(script), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())
        watched = os.pidfd_open(pid)
        parent.send_signal(number)
        try:
            assert select.select([watched], [], [], PATIENCE_S)[0], "the child outlived us"
        finally:
            os.close(watched)
