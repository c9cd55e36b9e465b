// /console/shared#secret

import { call } from "./api.js";
import { begin, byId } from "./page.js";
import { Watching, actButton, linkButton } from "./watching.js";

const KEPT = "gatekeeper-shared";

begin();

// The secret stands behind `#`, so that no server is told of it with the address.
let secret = location.hash.slice(1);
if (secret === "") secret = sessionStorage.getItem(KEPT) || "";
sessionStorage.removeItem(KEPT);

const watching = new Watching({
  getTicket: async () => {
    const opened = await call("POST", "/shares/open", { secret });
    return opened.ticket;
  },
  acts: {
    again: () => actButton("Attach again", () => watching.connection.again()),
    start: () => linkButton("To your own terminals", "/console"),
    "sign-in": () => actButton("Sign in", () => {
      sessionStorage.setItem(KEPT, secret);
      location.assign("/console");
    }),
  },
});

if (byId("sign-out") === null) watching.why("Whoever is signed in may watch with this link.", "sign-in");
else if (secret === "") watching.why("This address names no shared terminal.", "start");
else watching.begin();
byId("take").hidden = true;
