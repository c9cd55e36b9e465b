// States, times and reasons, in words.

const STAGES = {
  queued: "asked for",
  scheduled: "its turn",
  started: "started",
  fetched: "bundle fetched",
  verified: "bundle verified",
  installed: "installed",
  first_byte: "first byte",
};

const ENDINGS = {
  exited: "The command ended",
  expired: "Its time was over: the terminal reached its deadline",
  idle: "Nothing was typed and nothing was written for too long",
  revoked: "Somebody ended it",
  output_limit: "It wrote more than a terminal may",
  bundle_refused: "Its bundle was refused",
  install_failed: "The install failed",
  runner_lost: "The process that held it is gone",
  launch_failed: "It could not be started",
};

export const OVER = new Set(["denied", "failed", "ended", "revoked", "expired", "cleaned"]);

export function stageInWords(stage) {
  return STAGES[stage] || stage;
}

export function endingInWords(ending, code, signal) {
  const said = ENDINGS[ending] || "It has ended";
  if (code !== null && code !== undefined) return `${said}: exit code ${code}`;
  if (signal) return `${said}: signal ${signal}`;
  return said;
}

/** Read a close reason: `exit N` or `signal N`, or else nothing that is to be shown. */
export function reasonInWords(reason) {
  const [, what, number] = /^(exit|signal) (\d{1,3})$/.exec(reason) || [];
  if (what === "exit") return endingInWords("exited", Number(number));
  return what === "signal" ? endingInWords("exited", null, Number(number)) : "";
}

export function stateInWords(view) {
  if (view.status === "pending") {
    if (view.queuePlace) return `waiting: ${view.queuePlace} before it`;
    return "starting";
  }
  if (view.status === "ready") return "running";
  if (view.status === "denied") return "denied";
  if (view.status === "failed") return view.error ? `failed: ${view.error.message}` : "failed";
  return endingInWords(view.ending || view.status, view.exitCode, view.signal);
}

export function span(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  const two = (number) => String(number).padStart(2, "0");
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}:${two(seconds % 60)}`;
  return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(seconds % 60)}`;
}

export function commandInWords(view) {
  return view.command.length ? view.command.join(" ") : view.profile;
}
