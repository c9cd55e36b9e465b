// What every page does: make elements, sign out, and keep a session alive that is used.

import { answer } from "./api.js";

const SEEN_EVERY_MS = 300_000;
/** All pages of ours in this browser hear on it that somebody signed out. */
const SIGNED_OUT = new BroadcastChannel("gatekeeper-signed-out");

/** Make an element. Children are text or elements; nothing is ever read as HTML. */
export function make(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

export function byId(id) {
  return document.getElementById(id);
}

export function signInAddress() {
  return location.pathname + location.search;
}

function signOut() {
  const button = byId("sign-out");
  if (button === null) return;
  button.addEventListener("click", async () => {
    await answer("POST", "/console/sign-out").catch(() => null);
    SIGNED_OUT.postMessage(null);
    location.assign("/console");
  });
}

function keepAlive() {
  let seen = performance.now();
  const used = () => {
    if (performance.now() - seen < SEEN_EVERY_MS) return;
    seen = performance.now();
    answer("GET", "/whoami").catch(() => null);
  };
  for (const what of ["keydown", "pointerdown"]) document.addEventListener(what, used, true);
}

/** Nothing stays attached, or to be seen: the page is loaded again, and asks to sign in. */
function leaveWithTheOthers() {
  SIGNED_OUT.onmessage = () => location.reload();
}

export function begin() {
  signOut();
  leaveWithTheOthers();
  if (byId("sign-out") !== null) keepAlive();
}
