// Everything that is clicked, typed or read.

import { byId, clamp } from "gridpose/page.js";

const VIEWS = ["front", "side", "top", "perspective"];
const SPEEDS = [0.25, 0.5, 1, 2];

function press(button, pressed) {
  button.setAttribute("aria-pressed", String(pressed));
}

/** Everything that is clicked, typed or read. */
export class Panel {
  constructor(poses, stage, player, video, redraw) {
    Object.assign(this, { poses, stage, player, video, redraw });
    // Inside another page it may have changed since the first paint.
    this.theme = matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark";
    byId("scrub").max = poses.frames - 1;
    byId("last-frame").textContent = poses.frames - 1;
    // Numbers that grow must not push what stands beside them.
    byId("frame").style.minWidth = `${String(poses.frames - 1).length}ch`;
    this.#listPeople();
    this.#wire();
    this.#wireTheme();
    player.onState = () => this.#showState();
    stage.onView = (view) => this.#showView(view);
    window.addEventListener("keydown", (event) => this.#key(event));
    if (matchMedia("(max-width: 720px)").matches) byId("people-panel").open = false;
  }

  #listPeople() {
    this.rows = this.stage.skeletons.map((skeleton) => this.#row(skeleton));
    byId("people").append(...this.rows.map(({ item }) => item));
    byId("people-panel").hidden = !this.rows.length;
    byId("legend").hidden = !this.rows.length;
    this.#count();
  }

  #row(skeleton) {
    const item = document.createElement("li");
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
    box.dataset.person = skeleton.id;
    const swatches = document.createElement("span");
    swatches.className = "swatches";
    const name = document.createElement("span");
    name.textContent = `Person ${skeleton.id}`;
    label.append(box, swatches, name);
    item.append(label);
    box.addEventListener("change", () => this.#choose(skeleton, box.checked));
    return { item, swatches, skeleton };
  }

  #choose(skeleton, shown) {
    skeleton.shown = shown;
    this.#count();
    this.player.show();
  }

  #count() {
    const shown = this.rows.filter(({ skeleton }) => skeleton.shown).length;
    byId("people-count").textContent = `${shown} of ${this.rows.length}`;
  }

  #wire() {
    const { player } = this;
    const click = (id, action) => byId(id).addEventListener("click", action);
    click("play", () => player.toggle());
    click("back", () => player.step(-1));
    click("forward", () => player.step(1));
    click("loop", () => this.#toggleLoop());
    click("trails", () => this.#toggleTrails());
    click("video-toggle", () => this.#toggleVideo());
    click("sound", () => this.#toggleSound());
    click("help-open", () => this.#toggleHelp());
    byId("scrub").addEventListener("input", (event) => player.seek(Number(event.target.value)));
    byId("speed").addEventListener("change", (event) => player.setSpeed(Number(event.target.value)));
    for (const button of document.querySelectorAll("[data-view]")) {
      button.addEventListener("click", () => this.#view(button.dataset.view));
    }
    // What was clicked with a mouse gives the keyboard back: space plays, whatever came before.
    window.addEventListener("click", (event) => {
      if (event.detail > 0) event.target.closest("button")?.blur();
    });
    byId("help").addEventListener("click", (event) => {
      if (event.target === byId("help")) byId("help").close();
    });
  }

  #wireTheme() {
    const light = matchMedia("(prefers-color-scheme: light)");
    light.addEventListener("change", () => this.setTheme(light.matches ? "light" : "dark"));
    byId("theme").addEventListener("click", () => this.#otherTheme());
  }

  #otherTheme() {
    this.setTheme(this.theme === "light" ? "dark" : "light");
  }

  setTheme(name) {
    this.theme = name;
    document.documentElement.dataset.theme = name;
    this.stage.setTheme(name);
    for (const { swatches, skeleton } of this.rows) this.#paint(swatches, skeleton);
    // Families of colours differ by person; the first one's stand for all.
    for (const side of this.rows.length ? document.querySelectorAll("[data-joint]") : []) {
      side.style.setProperty("--side", this.#colour(0, side.dataset.joint));
    }
    this.redraw();
  }

  #colour(person, joint) {
    const { jointNames, people } = this.poses;
    return people[person].colours[this.theme][jointNames.indexOf(joint)];
  }

  #paint(swatches, skeleton) {
    const parts = ["left_hip", "hip", "right_hip"].map((name) => {
      const part = document.createElement("span");
      part.style.background = this.#colour(skeleton.person, name);
      return part;
    });
    swatches.replaceChildren(...parts);
  }

  #view(view) {
    this.stage.setView(view);
    this.redraw();
  }

  #showView(view) {
    for (const button of document.querySelectorAll("[data-view]")) {
      press(button, button.dataset.view === view);
    }
  }

  #toggleLoop() {
    this.player.loop = !this.player.loop;
    press(byId("loop"), this.player.loop);
  }

  #toggleTrails() {
    this.stage.withTrails = !this.stage.withTrails;
    press(byId("trails"), this.stage.withTrails);
    this.player.show();
  }

  #toggleVideo() {
    if (!this.video.exists) return;
    const panel = byId("source");
    panel.hidden = !panel.hidden;
    press(byId("video-toggle"), !panel.hidden);
    this.video.resize();
    this.player.show();
  }

  #toggleSound() {
    const { element } = this.video;
    element.muted = !element.muted;
    press(byId("sound"), !element.muted);
  }

  #toggleHelp() {
    const help = byId("help");
    if (help.open) help.close();
    else help.showModal();
  }

  #changeSpeed(steps) {
    const place = clamp(SPEEDS.indexOf(this.player.speed) + steps, 0, SPEEDS.length - 1);
    this.player.setSpeed(SPEEDS[place]);
  }

  showFrame(frame) {
    byId("scrub").value = frame;
    byId("frame").textContent = frame;
    byId("time").textContent = this.poses.times[frame].toFixed(2);
    this.rows.forEach(({ item }, person) => {
      item.classList.toggle("absent", !this.poses.isPresent(person, frame));
    });
  }

  #showState() {
    const { playing, speed } = this.player;
    byId("play-icon").setAttribute("href", playing ? "#icon-pause" : "#icon-play");
    byId("play").setAttribute("aria-label", playing ? "Pause" : "Play");
    byId("speed").value = String(speed);
    this.redraw();
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const action = this.#action(event);
    if (!action) return;
    event.preventDefault();
    action();
  }

  #action(event) {
    const { player } = this;
    const { key, target } = event;
    if (byId("help").open) return key.toLowerCase() === "h" ? () => this.#toggleHelp() : null;
    // Who reached something with the tab key uses it by its own keys.
    if (target.closest?.("select")) return null;
    if (key === " ") {
      return target.closest?.("button, summary, [type=checkbox]") ? null : () => player.toggle();
    }
    const sign = { ArrowLeft: -1, ArrowRight: 1 }[key];
    if (sign) return () => (event.shiftKey ? player.skip(sign) : player.step(sign));
    const view = VIEWS[Number(key) - 1];
    if (view) return () => this.#view(view);
    return {
      Home: () => player.seek(0),
      End: () => player.seek(this.poses.frames - 1),
      "+": () => this.#changeSpeed(1),
      "=": () => this.#changeSpeed(1),
      "-": () => this.#changeSpeed(-1),
      l: () => this.#toggleLoop(),
      t: () => this.#toggleTrails(),
      v: () => this.#toggleVideo(),
      d: () => this.#otherTheme(),
      h: () => this.#toggleHelp(),
      "?": () => this.#toggleHelp(),
    }[key.length === 1 ? key.toLowerCase() : key];
  }
}
