"""A `FakeLauncher` as a runner: signed orders over HTTP, and signed reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import httpx
from fastapi import FastAPI, Request, Response

from fakes.launcher import FakeLauncher
from fakes.terminal_world import launch_of, new_terminal
from gatekeeper.kernel.errors import GatekeeperError, Refusal
from gatekeeper.kernel.ids import SessionId, TerminalId
from gatekeeper.platform.clock import SystemClock
from gatekeeper.platform.crypto.envelope import Opened, ReplayGuard, open_envelope, seal
from gatekeeper.platform.crypto.signing import SigningKey, public_key
from gatekeeper.platform.random import SystemRandom
from gatekeeper.terminals.model import DatabaseWanted, Size
from gatekeeper.terminals.ports import BoundLogin
from gatekeeper.terminals.runner.attesting import Attestor
from gatekeeper.wire import runner as wire

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gatekeeper.terminals.model import Ended

NAME: Final = "local"


class FakeRunner:
    """Takes the orders of one control plane, and tells it what a test wants to be told."""

    def __init__(self, folder: Path, *, plane: str, plane_key: str) -> None:
        self.launcher = FakeLauncher(name=NAME)
        self._key = SigningKey.load_or_create(folder / "runner.jwk")
        self._attestor = Attestor(name=NAME, key=self._key.private, clock=SystemClock())
        self._plane = plane
        self._plane_key = public_key(plane_key)
        self._first: dict[str, int] = {}
        self.app = FastAPI()
        self.app.add_api_route("/orders", self._orders, methods=["POST"])

    @property
    def public_key(self) -> str:
        return self._key.public_jwk()

    def tell(
        self, url: str, terminal: str, *events: wire.TerminalEvent, **changes: Any
    ) -> wire.ReportAnswer:
        """Report events of one terminal; what else there is, is said to be live."""
        about = self._instance(terminal)
        here = [
            wire.TerminalReport(
                terminal=found.launch.terminal.id,
                instance=instance,
                live=True,
                first=self._first.get(instance, 1),
                events=self._attested(found.launch.terminal.id, instance, events)
                if instance == about
                else (),
            )
            for instance, found in self.launcher.live.items()
        ]
        answer = self.report(url, *here, **changes)
        self._first[about] = answer.taken[about] + 1
        return answer

    def report(
        self, url: str, *terminals: wire.TerminalReport, **changes: Any
    ) -> wire.ReportAnswer:
        report = wire.RunnerReport(
            runner=NAME, boot=self.launcher.boot, sandbox="none", capacity=9, terminals=terminals
        )
        message = SystemRandom().bytes(16).hex()
        response = self.post(url, self.sealed(report, message_id=message, **changes))
        assert response.status_code == 200, response.text
        opened = self._opened(response.text, purpose="result", in_reply_to=message)
        return wire.ReportAnswer.model_validate_json(opened.payload)

    def sealed(self, report: wire.RunnerReport, **changes: Any) -> str:
        values: dict[str, Any] = {
            "key": self._key.private, "sender": NAME, "audience": self._plane, "purpose": "report",
            "message_id": SystemRandom().bytes(16).hex(), "now": SystemClock().now(),
        }  # fmt: skip
        return seal(report.model_dump_json(by_alias=True).encode(), **{**values, **changes})

    @staticmethod
    def post(url: str, envelope: str) -> httpx.Response:
        return httpx.post(f"{url}/runners/report", content=envelope)

    def _attested(
        self, terminal: str, instance: str, events: Iterable[wire.TerminalEvent]
    ) -> tuple[wire.TerminalEvent, ...]:
        return tuple(self._attestor.attested(terminal, instance, event) for event in events)

    def _instance(self, terminal: str) -> str:
        return next(i for i, t in self.launcher.live.items() if t.launch.terminal.id == terminal)

    async def _orders(self, request: Request) -> Response:
        opened = self._opened((await request.body()).decode(), purpose="job")
        order = wire.ORDER.validate_json(opened.payload)
        try:
            result = await self._carry_out(order)
        except GatekeeperError as error:
            result = wire.FailedResult(
                code=error.code, message=error.detail, retryable=error.retryable
            )
        result = self._attestor.attested(order.terminal, order.instance, result)
        text = seal(
            result.model_dump_json(by_alias=True).encode(), key=self._key.private, sender=NAME,
            audience=self._plane, purpose="result", message_id=SystemRandom().bytes(16).hex(),
            now=SystemClock().now(), in_reply_to=opened.message_id,
        )  # fmt: skip
        return Response(text)

    def _opened(self, text: str, **about: Any) -> Opened:
        opened = open_envelope(
            text, trusted={self._plane: (self._plane_key,)}, audience=NAME,
            now=SystemClock().now(), seen=ReplayGuard(), **about,
        )  # fmt: skip
        assert not isinstance(opened, Refusal), opened
        return opened

    async def _carry_out(self, order: wire.Order) -> wire.Result:
        about = (TerminalId(order.terminal), order.instance)
        match order:
            case wire.LaunchOrder():
                return await self._launch(order)
            case wire.EndOrder():
                gone = await self.launcher.end(*about, order.why)
                return wire.GoneResult(
                    terminal=order.terminal, instance=order.instance, existed=gone.existed,
                    gone=gone.gone, processes_ended=gone.processes_ended, left=gone.left,
                    ended=None if gone.ended is None else _ended(gone.ended),
                )  # fmt: skip
            case wire.BindOrder():
                await self.launcher.bind(*about, _login(order))
                return wire.DoneResult()
            case wire.InputOrder():
                await self.launcher.send_input(*about, order.data)
                return wire.DoneResult()
            case wire.WaitOrder():
                found = await self.launcher.wait_for_text(*about, order.text, order.seconds)
                return wire.DoneResult(found=found)
            case wire.ScreenOrder():
                lines, size = await self.launcher.screen(*about)
                return wire.ScreenResult(lines=tuple(lines), columns=size.columns, rows=size.rows)

    async def _launch(self, order: wire.LaunchOrder) -> wire.LaunchedResult:
        terminal = new_terminal(
            id=TerminalId(order.terminal), instance=order.instance, command=order.command,
            size=Size(columns=order.columns, rows=order.rows),
            database=DatabaseWanted(target="", role="") if order.database else None,
        )  # fmt: skip
        made = await self.launcher.launch(launch_of(terminal))
        return wire.LaunchedResult(
            terminal=order.terminal, instance=order.instance, address=made.address,
            sandbox="none", already=made.already, verifier=made.verifier,
        )  # fmt: skip


def _ended(ended: Ended) -> wire.EndedView:
    return wire.EndedView(
        ending=ended.ending.value, exit_code=ended.exit_code, last_screen=ended.last_screen,
        output_bytes=ended.output_bytes,
    )  # fmt: skip


def _login(order: wire.BindOrder) -> BoundLogin:
    return BoundLogin(
        session=SessionId(order.session), host=order.host, port=order.port,
        database=order.database, sslmode=order.sslmode, username=order.username,
    )  # fmt: skip
