// /console/recordings/{id}

import { answer, inWords } from "./api.js";
import { plain } from "./guard.js";
import { begin, byId, make } from "./page.js";
import { Player, read } from "./player.js";
import { Screen } from "./screen.js";
import { span } from "./words.js";

const id = byId("recording").dataset.terminal;
const nothing = () => {};

begin();

function download(bytes) {
  const address = URL.createObjectURL(new Blob([bytes], { type: "application/x-asciicast" }));
  make("a", { href: address, download: `${id}.cast` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

function show(recording) {
  byId("player").hidden = false;
  const screen = new Screen(byId("screen"), {
    typed: nothing, title: nothing, bell: nothing, link: nothing, over: nothing, paste: nothing,
    leave: () => byId("play").focus(),
  });
  const player = new Player(recording, screen, (now, playing) => {
    byId("position").value = String(now);
    byId("time").replaceChildren(`${span(now * 1_000)} of ${span(recording.seconds * 1_000)}`);
    byId("play").replaceChildren(playing ? "Pause" : "Play");
  });
  byId("position").max = String(Math.ceil(recording.seconds * 10) / 10);
  byId("position").addEventListener("input", (event) => player.seek(Number(event.target.value)));
  byId("play").addEventListener("click", () => {
    if (player.playing) player.pause();
    else player.play();
  });
  byId("speed").addEventListener("change", (event) => { player.speed = Number(event.target.value); });
  byId("pauses").addEventListener("change", (event) => { player.shorten = event.target.checked; });
  marks(recording, player);
  player.seek(0);
}

function marks(recording, player) {
  const found = recording.events.filter((event) => event.kind === "m");
  byId("marks").replaceChildren(
    ...found.map((event) => {
      const button = make("button", { type: "button" }, `${span(event.at * 1_000)} ${plain(event.data)}`);
      button.addEventListener("click", () => player.seek(event.at));
      return make("li", {}, button);
    }),
  );
}

async function fetched() {
  try {
    const bytes = await (await answer("GET", `/terminals/${id}/recording`)).arrayBuffer();
    byId("download").addEventListener("click", () => download(bytes));
    show(read(new TextDecoder().decode(bytes)));
    byId("says").replaceChildren("");
  } catch (problem) {
    byId("says").replaceChildren(inWords(problem));
  }
}

fetched();
