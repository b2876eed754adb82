// What time it is.

import { clamp } from "gridpose/page.js";

/** What time it is: the video's while it plays, otherwise that of the clock. */
export class Player {
  constructor(poses, video, onFrame) {
    this.poses = poses;
    this.video = video;
    this.onFrame = onFrame;
    this.playing = false;
    this.loop = true;
    this.speed = 1;
    this.frame = 0;
    this.time = poses.first;
    this.onState = () => {};
  }

  play() {
    if (this.playing || this.poses.frames < 2) return;
    if (this.frame === this.poses.frames - 1) this.#show(0);
    this.playing = true;
    this.last = null;
    this.video.play(this.time, this.speed);
    this.onState();
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    this.video.pause();
    this.seek(this.frame);
    this.onState();
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  seek(frame) {
    this.#show(clamp(Math.round(frame), 0, this.poses.frames - 1));
    this.video.seek(this.time);
  }

  step(frames) {
    this.pause();
    this.seek(this.frame + frames);
  }

  skip(seconds) {
    const target = this.poses.frameAt(this.poses.times[this.frame] + seconds);
    this.seek(target);
  }

  setSpeed(speed) {
    this.speed = speed;
    this.video.element.playbackRate = speed;
    this.onState();
  }

  /** Shows a frame: the present one again, where something about it has changed. */
  show(frame = this.frame) {
    this.frame = frame;
    this.onFrame(frame);
  }

  #show(frame) {
    this.time = this.poses.times[frame];
    this.show(frame);
  }

  /** Once per picture of the screen while playing; ``now`` in milliseconds. */
  tick(now) {
    const elapsed = this.last === null ? 0 : (now - this.last) / 1000;
    this.last = now;
    if (this.video.leads) {
      // While it looks for its place, time stands still.
      if (!this.video.element.seeking) this.time = this.video.time;
    } else {
      // Somebody who comes back from another window goes on where they left.
      this.time += Math.min(elapsed, 0.5) * this.speed;
    }
    if (this.time >= this.poses.end) this.#finish();
    else this.#follow();
  }

  #follow() {
    const frame = this.poses.frameAt(this.time);
    if (frame !== this.frame) this.show(frame);
  }

  #finish() {
    if (!this.loop) {
      this.frame = this.poses.frames - 1;
      this.pause();
      return;
    }
    this.#show(0);
    this.video.play(this.time, this.speed);
  }
}
