// Why a socket was closed (kernel/terminal/closing.py), in words, with what to do then.

export const AGAIN = "again";
export const START = "start";
export const SIGN_IN = "sign-in";

/** `over`: there is nothing to attach to any more. Others are attached again by themselves. */
const CODES = {
  1000: { over: true, words: "The terminal has ended.", then: START },
  1002: { over: false, held: true, words: "This page and the terminal do not understand each other.", then: AGAIN },
  1009: { over: false, held: true, words: "What was sent was too large.", then: AGAIN },
  4000: { over: true, words: "The command has ended.", then: START },
  4401: { over: true, words: "Somebody ended this terminal.", then: START },
  4403: { over: false, held: true, words: "That was not allowed here.", then: AGAIN },
  4408: { over: true, words: "Its time was over: the terminal reached its deadline.", then: START },
  4409: { over: false, held: true, words: "Somebody else has taken over.", then: AGAIN },
  4410: { over: true, words: "It was ended because nothing happened in it for too long.", then: START },
  4502: { over: true, words: "The process that held this terminal is gone, and the terminal with it.", then: START },
};

const LOST = { over: false, words: "The connection was lost.", then: AGAIN };
const LEAVING = { over: false, words: "The gateway is being restarted.", then: AGAIN };

export function closing(code) {
  if (code === 1012 || code === 1013) return LEAVING;
  return CODES[code] || LOST;
}

/** What a refusal to attach means. `retry`: try by yourself, after so many seconds. */
export function refusal(problem) {
  if (problem.status === 401) return { words: "You are no longer signed in.", then: SIGN_IN };
  if (problem.status === 404) return { words: "There is no such terminal that you may see.", then: START };
  if (problem.status === 409 || problem.status === 410) return { over: true, words: problem.message, then: START };
  if (problem.status === 403) return { words: problem.message, then: START };
  if (problem.status === 0 || problem.status === 429 || problem.status >= 500) {
    return { words: problem.message, then: AGAIN, retry: problem.retryAfter || 1 };
  }
  return { words: problem.message, then: AGAIN };
}
