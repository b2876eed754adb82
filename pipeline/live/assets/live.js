// The live page: the picture beside skeletons that can be turned, and keys for the session.

import { byId } from "gridpose/page.js";
import { Stage } from "gridpose/stage.js";

const SLOTS = 6;
const KEEP_MS = 1000;
const REACH = { aside: 0.95, above: 2.0 };
const LAYOUTS = ["both", "picture", "skeletons"];
const VIEWS = ["front", "side", "top", "perspective"];

/** What the stage asks of poses, of one moment: a few places that people take and leave. */
class LivePoses {
  constructor(setup) {
    Object.assign(this, setup);
    this.frames = 1;
    this.times = [0];
    this.jointCount = setup.jointNames.length;
    this.hideUnseen = false;
    this.people = Array.from({ length: SLOTS }, (_, slot) => ({
      id: slot + 1, place: [0, 0], colours: setup.families[slot % setup.families.length],
    }));
    this.shown = Array(SLOTS).fill(null);
  }

  isPresent(slot) {
    return this.shown[slot] !== null;
  }

  confidenceOf(slot, joint) {
    return this.shown[slot].confidence[joint] ?? 0;
  }

  isUnseen(slot, joint) {
    return this.confidenceOf(slot, joint) === 0;
  }

  joint(slot, joint, _frame, target) {
    return target.set(...this.shown[slot].pose_world[joint]);
  }

  opacity(slot, joints) {
    const surest = Math.min(...joints.map((joint) => this.confidenceOf(slot, joint)));
    return this.faintest + (1 - this.faintest) * surest;
  }

  frameAt() {
    return 0;
  }
}

/** Who has which place: nobody moves to another one while they are there. */
class Places {
  constructor(poses, stage) {
    Object.assign(this, { poses, stage });
    this.owners = Array(SLOTS).fill(null);
    this.left = Array(SLOTS).fill(0);
  }

  update(people, now) {
    const { poses, owners } = this;
    const byNumber = new Map(people.map((person) => [person.id, person]));
    let changed = false;
    owners.forEach((id, slot) => {
      if (byNumber.has(id)) this.left[slot] = now;
      else if (id !== null && now - this.left[slot] > KEEP_MS) {
        owners[slot] = null;
        changed = true;
      }
    });
    for (const { id } of people) {
      const free = owners.indexOf(null);
      if (owners.includes(id) || free < 0) continue;
      owners[free] = id;
      this.left[free] = now;
      changed = true;
    }
    owners.forEach((id, slot) => {
      poses.shown[slot] = byNumber.get(id) ?? null;
    });
    if (changed) this.#lineUp(byNumber);
    return changed;
  }

  /** Side by side, as they are seen from left to right. */
  #lineUp(byNumber) {
    const { poses, stage, owners } = this;
    const column = (slot) => byNumber.get(owners[slot])?.keypoints[0][0] ?? 0;
    const taken = owners.flatMap((id, slot) => (id === null ? [] : [slot]));
    taken.sort((a, b) => column(a) - column(b));
    taken.forEach((slot, place) => {
      const id = owners[slot];
      const x = poses.spacing * (place - (taken.length - 1) / 2);
      Object.assign(poses.people[slot], {
        id, place: [x, 0], colours: poses.families[(id - 1) % poses.families.length],
      });
      const skeleton = stage.skeletons[slot];
      skeleton.id = id;
      skeleton.group.position.set(x, 0, 0);
    });
    const { group } = stage.skeletons[0];
    const corner = (x, y, z) => group.position.clone().set(x, y, z);
    stage.reaches = owners.map((id, slot) => {
      if (id === null) return [];
      const [x] = poses.people[slot].place;
      const { aside, above } = REACH;
      return [-aside, aside].flatMap((a) => [0, above].flatMap((z) => [
        corner(x + a, -aside, z), corner(x + a, aside, z),
      ]));
    });
  }
}

function press(name) {
  return fetch(`/keys/${name}`, { method: "POST" });
}

function explain(id, text) {
  byId(id).textContent = text;
  byId(id).hidden = !text;
}

function showState(state) {
  byId("fps").textContent = state.fps.toFixed(0);
  byId("latency").textContent = `${state.latency.toFixed(0)} ms`;
  byId("dropped").textContent = state.dropped;
  byId("recording").hidden = !state.recording;
  byId("pause").textContent = state.paused ? "Go on" : "Pause";
  explain("trouble", state.trouble);
}

function makeStage(poses, redraw) {
  try {
    return new Stage(byId("scene"), poses, redraw);
  } catch (error) {
    explain("problem", "This browser cannot draw in 3D here: WebGL is missing or switched off.");
    console.warn(error);
    return null;
  }
}

/** Everything that is clicked or typed. */
function wire(stage, setTheme, redraw) {
  const actions = {
    pause: () => press("pause"),
    quit: () => press("quit"),
    layout() {
      const { dataset } = document.body;
      dataset.layout = LAYOUTS[(LAYOUTS.indexOf(dataset.layout) + 1) % LAYOUTS.length];
    },
    turn() {
      if (!stage) return;
      stage.controls.autoRotate = !stage.controls.autoRotate;
      byId("turn").setAttribute("aria-pressed", String(stage.controls.autoRotate));
      redraw();
    },
    theme: () => setTheme(document.documentElement.dataset.theme === "light" ? "dark" : "light"),
  };
  for (const [id, action] of Object.entries(actions)) byId(id).addEventListener("click", action);
  const keys = { " ": "pause", l: "layout", t: "turn", d: "theme", q: "quit", escape: "quit" };
  window.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    // Space presses a button that has the keyboard; it need not do so twice.
    if (event.key === " " && event.target.closest("button")) return;
    const view = VIEWS[Number(event.key) - 1];
    const action = actions[keys[event.key.toLowerCase()]];
    if (!view && !action) return;
    event.preventDefault();
    if (view) stage?.setView(view);
    else action();
  });
  window.addEventListener("click", (event) => {
    if (event.detail > 0) event.target.closest("button")?.blur();
  });
  if (!stage) return;
  const buttons = [...document.querySelectorAll("[data-view]")];
  buttons.forEach((button) => {
    button.addEventListener("click", () => stage.setView(button.dataset.view));
  });
  stage.onView = (view) => {
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(button.dataset.view === view));
    }
    redraw();
  };
}

async function start() {
  const poses = new LivePoses(await (await fetch("/setup")).json());
  let waiting = false;
  const redraw = () => {
    if (waiting || !stage) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      stage.draw();
      if (stage.controls.autoRotate) redraw();
    });
  };
  const stage = makeStage(poses, redraw);
  const setTheme = (name) => {
    document.documentElement.dataset.theme = name;
    stage?.setTheme(name);
    redraw();
  };
  wire(stage, setTheme, redraw);
  const places = stage && new Places(poses, stage);
  if (stage) {
    setTheme(document.documentElement.dataset.theme);
    stage.setView("perspective");
    new ResizeObserver(() => {
      stage.resize();
      stage.draw();
    }).observe(byId("scene"));
    stage.resize();
  }
  window.gridpose = { frames: 0, people: [], stage };

  const events = new EventSource("/poses");
  events.onmessage = (event) => {
    const { state, people } = JSON.parse(event.data);
    showState(state);
    if (!people) return;
    window.gridpose.frames += 1;
    window.gridpose.people = people.map(({ id }) => id);
    byId("nobody").hidden = people.length > 0;
    if (!stage) return;
    if (places.update(people, performance.now())) {
      setTheme(document.documentElement.dataset.theme);
      if (stage.view) stage.setView(stage.view);
    }
    stage.showFrame(0);
    redraw();
  };
  events.addEventListener("end", () => {
    events.close();
    explain("trouble", "The session has ended.");
  });
  events.onerror = () => explain("trouble", "gridpose does not answer; it may have ended.");
}

start().catch((error) => {
  console.error(error);
  explain("problem", `The page could not start: ${error.message}`);
});
