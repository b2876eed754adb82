// The source video beside the scene.

import { byId, clamp, pixelRatio } from "gridpose/page.js";

const DOTTED = 0.4;

/** The source video with 2D keypoints over it. Without a video, nothing of it is seen. */
export class VideoPanel {
  constructor(poses, file, isShown) {
    this.poses = poses;
    this.isShown = isShown;
    this.element = byId("video");
    this.canvas = byId("keypoints");
    this.exists = file.size > 0;
    this.works = this.exists;
    this.wanted = null;
    this.pictured = { time: 0, at: -Infinity };
    if (!this.exists) return;
    this.element.src = URL.createObjectURL(new Blob([file], { type: "video/mp4" }));
    this.element.addEventListener("error", () => this.#fail());
    this.element.addEventListener("seeked", () => this.#seekAgain());
    this.#watchPictures();
    byId("source").hidden = false;
    byId("video-toggle").hidden = false;
    byId("sound").hidden = false;
  }

  #fail() {
    this.works = false;
    byId("video-problem").hidden = false;
  }

  // Browsers that tell which picture is on screen keep the skeletons exactly in step.
  #watchPictures() {
    if (!this.element.requestVideoFrameCallback) return;
    const note = (now, { mediaTime }) => {
      this.pictured = { time: mediaTime, at: now };
      this.element.requestVideoFrameCallback(note);
    };
    this.element.requestVideoFrameCallback(note);
  }

  get visible() {
    return this.exists && !byId("source").hidden;
  }

  /** Whether the video's clock is the one to follow, and not just about to be. */
  get leads() {
    const { paused, ended } = this.element;
    return this.works && !paused && !ended;
  }

  get time() {
    const fresh = performance.now() - this.pictured.at < 200;
    return fresh && !this.element.seeking ? this.pictured.time : this.element.currentTime;
  }

  play(time, speed) {
    if (!this.works) return;
    this.seek(time);
    this.element.playbackRate = speed;
    // A refusal leaves it paused: the skeletons then run by the clock.
    this.element.play().catch(() => {});
  }

  pause() {
    if (this.works) this.element.pause();
  }

  // A millisecond later, so that rounding never shows the picture before.
  seek(time) {
    if (!this.works) return;
    this.pictured.at = -Infinity;
    if (this.element.seeking) this.wanted = time;
    else this.element.currentTime = time + 0.001;
  }

  // Scrubbing asks faster than videos can follow: the last wish counts.
  #seekAgain() {
    if (this.wanted === null) return;
    const time = this.wanted;
    this.wanted = null;
    this.seek(time);
  }

  /** As large as the panel allows, in the shape of the picture. */
  resize() {
    if (!this.visible) return;
    const { clientWidth, clientHeight } = byId("source");
    const [width, height] = this.poses.imageSize;
    const scale = Math.min(clientWidth / width, clientHeight / height);
    const style = byId("picture").style;
    style.setProperty("--picture-width", `${Math.floor(width * scale)}px`);
    style.setProperty("--picture-height", `${Math.floor(height * scale)}px`);
    const ratio = pixelRatio();
    this.canvas.width = Math.round(width * scale * ratio);
    this.canvas.height = Math.round(height * scale * ratio);
  }

  draw(frame) {
    if (!this.visible || !this.canvas.width) return;
    const context = this.canvas.getContext("2d");
    const scale = this.canvas.width / this.poses.imageSize[0];
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, ...this.poses.imageSize);
    context.lineCap = "round";
    this.poses.people.forEach((_, person) => {
      if (this.isShown(person) && this.poses.isPresent(person, frame)) {
        this.#drawPerson(context, person, frame, 1 / scale);
      }
    });
    context.globalAlpha = 1;
  }

  #isOutside([x, y]) {
    const [width, height] = this.poses.imageSize;
    return x < 0 || y < 0 || x >= width || y >= height;
  }

  #drawPerson(context, person, frame, pixel) {
    const { poses } = this;
    const points = poses.jointNames.map((_, joint) => poses.keypoint(person, joint, frame));
    const heights = points.filter(Boolean).map(([, y]) => y);
    const tall = Math.max(...heights) - Math.min(...heights);
    // Source pictures are neither light nor dark: colours for dark ground are the brighter ones.
    const colours = poses.people[person].colours.dark;
    const width = clamp(tall / 75, 1.6 * pixel * devicePixelRatio, 8);
    for (const [parent, child] of poses.bones) {
      if (!points[parent] || !points[child]) continue;
      const unseen = [parent, child].filter((joint) => poses.isUnseen(person, joint, frame));
      if (unseen.some((joint) => poses.hideUnseen || this.#isOutside(points[joint]))) continue;
      context.globalAlpha = unseen.length ? DOTTED : poses.opacity(person, [parent, child], frame);
      context.lineWidth = unseen.length ? width / 2 : width;
      context.setLineDash(unseen.length ? [0, 2 * width] : []);
      context.strokeStyle = colours[child];
      context.beginPath();
      context.moveTo(...points[parent]);
      context.lineTo(...points[child]);
      context.stroke();
    }
  }
}
