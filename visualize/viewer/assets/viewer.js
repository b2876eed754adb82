// The viewer of gridpose: poses on a floor, the video beside them, and what steers both.

import { byId } from "gridpose/page.js";
import { Panel } from "gridpose/panel.js";
import { Player } from "gridpose/player.js";
import { Poses } from "gridpose/poses.js";
import { Stage } from "gridpose/stage.js";
import { VideoPanel } from "gridpose/video.js";

/** A function that has ``draw`` called with the next picture of the screen, once for each. */
function oncePerPicture(draw) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame((now) => {
      waiting = false;
      draw(now);
    });
  };
}

function makeStage(poses, redraw, explain) {
  try {
    return new Stage(byId("scene"), poses, redraw);
  } catch (error) {
    explain(
      "This browser cannot draw in 3D here: WebGL is missing or switched off. " +
        "Another browser, or hardware acceleration in the settings of this one, should help.",
    );
    console.warn(error);
    return null;
  }
}

/** What tests and other scripts can use. */
function publish(poses, stage, player) {
  window.gridpose = {
    ready: true,
    get frame() { return player.frame; },
    get time() { return poses.times[player.frame]; },
    get playing() { return player.playing; },
    get framesDrawn() { return stage.framesDrawn; },
    frameCount: poses.frames,
    people: poses.people.map(({ id }) => id),
    play: () => player.play(),
    pause: () => player.pause(),
    seek: (frame) => player.seek(frame),
    /** Track numbers of those who are drawn now. */
    visible: () => stage.skeletons.filter(({ group }) => group.visible).map(({ id }) => id),
    /** World metres [x, y, z] of a joint as drawn, or null for somebody who is not. */
    jointPosition(trackId, jointName) {
      const skeleton = stage.skeletons.find(({ id }) => id === trackId);
      const joint = poses.jointNames.indexOf(jointName);
      return skeleton && joint >= 0 ? skeleton.jointPosition(joint) : null;
    },
  };
}

/** Begins; called by the page with what unpacks its parts. */
export async function start({ decoded, unpacked, explain }) {
  const header = JSON.parse(byId("header").textContent);
  const poses = new Poses(header, await unpacked("poses"));
  const redraw = oncePerPicture((now) => {
    if (player.playing) {
      player.tick(now);
      redraw();
    }
    stage.draw();
  });
  const stage = makeStage(poses, redraw, explain);
  if (!stage) {
    window.gridpose = { ready: false };
    return;
  }
  const isShown = (person) => stage.skeletons[person].shown;
  const video = new VideoPanel(poses, decoded("video-file"), isShown);
  const player = new Player(poses, video, (frame) => {
    stage.showFrame(frame);
    video.draw(frame);
    panel.showFrame(frame);
    redraw();
  });
  const panel = new Panel(poses, stage, player, video, redraw);
  const fit = () => {
    stage.resize();
    video.resize();
    video.draw(player.frame);
    // At once: a canvas of a new size is empty until it is drawn.
    stage.draw();
  };
  panel.setTheme(panel.theme);
  stage.setView("perspective");
  player.seek(0);
  new ResizeObserver(fit).observe(byId("scene"));
  new ResizeObserver(fit).observe(byId("source"));
  fit();
  publish(poses, stage, player);
}
