// One person in the scene: bones, joints, shadow, number, trails.

import * as THREE from "three";
import { clamp } from "gridpose/page.js";

const BONE_RADIUS = 0.021;
const JOINT_RADIUS = 0.028;
const UNSEEN_PART = 0.35;
const TRAIL_RADIUS = 0.009;
const TRAIL_SECONDS = 1;
const TRAIL_SEGMENTS = 32;
const TRAIL_JOINTS = ["head", "left_wrist", "right_wrist", "left_ankle", "right_ankle"];
const SAMPLED_FRAMES = 200;
export const UP = new THREE.Vector3(0, 0, 1);

/** Geometry that all skeletons share: a bone reaches from z = 0 to 1 with radius 1. */
export function sharedShapes() {
  const bone = new THREE.CylinderGeometry(0.85, 1, 1, 12, 1, true);
  bone.translate(0, 0.5, 0).rotateX(Math.PI / 2);
  return {
    bone,
    joint: new THREE.SphereGeometry(1, 18, 12),
    blob: new THREE.PlaneGeometry(1, 1),
    softness: softTexture(),
  };
}

/** A round spot that fades outwards. */
function softTexture() {
  const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 64 });
  const context = canvas.getContext("2d");
  const gradient = context.createRadialGradient(32, 32, 0, 32, 32, 32);
  gradient.addColorStop(0, "rgba(255,255,255,.9)");
  gradient.addColorStop(0.5, "rgba(255,255,255,.4)");
  gradient.addColorStop(1, "rgba(255,255,255,0)");
  context.fillStyle = gradient;
  context.fillRect(0, 0, 64, 64);
  return new THREE.CanvasTexture(canvas);
}

/** Many copies of one shape in one draw call, each with its place and colour. */
class Copies {
  constructor(shape, material, count) {
    this.mesh = new THREE.InstancedMesh(shape, material, count);
    this.mesh.instanceMatrix.setUsage(THREE.DynamicDrawUsage);
    // Bounds would have to be computed for every frame; there is little to leave out.
    this.mesh.frustumCulled = false;
    this.mesh.setColorAt(0, new THREE.Color());
  }

  paint(index, colour) {
    this.mesh.setColorAt(index, colour);
  }

  changed(count = this.mesh.count) {
    this.mesh.count = count;
    this.mesh.instanceMatrix.needsUpdate = true;
    this.mesh.instanceColor.needsUpdate = true;
  }
}

const scratch = {
  matrix: new THREE.Matrix4(),
  turn: new THREE.Quaternion(),
  size: new THREE.Vector3(),
  along: new THREE.Vector3(),
  colour: new THREE.Color(),
};

function placeBone(copies, index, from, to, radius) {
  const along = scratch.along.subVectors(to, from);
  const length = along.length();
  if (length > 1e-6) scratch.turn.setFromUnitVectors(UP, along.divideScalar(length));
  scratch.size.set(radius, radius, length);
  copies.mesh.setMatrixAt(index, scratch.matrix.compose(from, scratch.turn, scratch.size));
}

function placeJoint(copies, index, at, radius) {
  scratch.matrix.makeScale(radius, radius, radius).setPosition(at);
  copies.mesh.setMatrixAt(index, scratch.matrix);
}

/** One person in the scene. The group stands at the person's place; children are in its axes. */
export class Skeleton {
  constructor(poses, person, shapes) {
    this.poses = poses;
    this.person = person;
    this.id = poses.people[person].id;
    this.shown = true;
    this.points = poses.jointNames.map(() => new THREE.Vector3());
    this.group = new THREE.Group();
    this.group.position.set(...poses.people[person].place, 0);

    this.bones = new Copies(shapes.bone, new THREE.MeshLambertMaterial(), poses.bones.length);
    this.joints = new Copies(shapes.joint, new THREE.MeshLambertMaterial(), poses.jointCount);
    this.shadow = this.#shadow();
    this.blob = this.#blob(shapes);
    this.label = this.#label();
    this.trails = this.#trails(shapes);
    this.group.add(
      this.blob, this.shadow, this.bones.mesh, this.joints.mesh, this.label, this.trails.mesh,
    );
  }

  // The bones once more, flattened onto the floor. One opaque colour, so that crossings do not
  // get darker; drawn after the floor without depth of its own.
  #shadow() {
    const material = new THREE.MeshBasicMaterial({ transparent: true, depthWrite: false });
    const shadow = new THREE.InstancedMesh(
      this.bones.mesh.geometry, material, this.poses.bones.length,
    );
    shadow.instanceMatrix = this.bones.mesh.instanceMatrix;
    shadow.scale.z = 1e-4;
    shadow.position.z = 0.004;
    shadow.renderOrder = 2;
    shadow.frustumCulled = false;
    return shadow;
  }

  #blob(shapes) {
    const material = new THREE.MeshBasicMaterial({
      map: shapes.softness, transparent: true, depthWrite: false,
    });
    const blob = new THREE.Mesh(shapes.blob, material);
    blob.position.z = 0.002;
    blob.renderOrder = 1;
    return blob;
  }

  #label() {
    const canvas = Object.assign(document.createElement("canvas"), { width: 128, height: 64 });
    const texture = new THREE.CanvasTexture(canvas);
    texture.colorSpace = THREE.SRGBColorSpace;
    const label = new THREE.Sprite(
      new THREE.SpriteMaterial({ map: texture, transparent: true, depthWrite: false }),
    );
    label.scale.set(0.34, 0.17, 1);
    label.renderOrder = 3;
    return label;
  }

  #trails(shapes) {
    const count = TRAIL_JOINTS.length * TRAIL_SEGMENTS;
    const trails = new Copies(shapes.bone, new THREE.MeshBasicMaterial(), count);
    trails.mesh.visible = false;
    return trails;
  }

  setTheme(name, stage) {
    this.colours = this.poses.people[this.person].colours[name].map((c) => new THREE.Color(c));
    this.background = new THREE.Color(stage.background);
    this.shadow.material.color.set(stage.shadow);
    this.blob.material.color.set(stage.shadow);
    this.#write(String(this.id), this.colours[0], stage.background);
  }

  #write(text, colour, rim) {
    const texture = this.label.material.map;
    const context = texture.image.getContext("2d");
    context.clearRect(0, 0, 128, 64);
    context.font = "600 42px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 8;
    context.lineJoin = "round";
    context.strokeStyle = rim;
    context.strokeText(text, 64, 34);
    context.fillStyle = `#${colour.getHexString()}`;
    context.fillText(text, 64, 34);
    texture.needsUpdate = true;
  }

  /** Paler, towards the background, the less certain. */
  #colour(joints, frame, named = joints.at(-1)) {
    const opacity = this.poses.opacity(this.person, joints, frame);
    return scratch.colour.lerpColors(this.background, this.colours[named], opacity);
  }

  update(frame, withTrails) {
    this.group.visible = this.shown && this.poses.isPresent(this.person, frame);
    if (!this.group.visible) return;
    this.points.forEach((point, joint) => this.poses.joint(this.person, joint, frame, point));
    const unseen = this.points.map((_, joint) => this.poses.isUnseen(this.person, joint, frame));
    const unseenPart = this.poses.hideUnseen ? 0 : UNSEEN_PART;
    this.poses.bones.forEach(([parent, child], index) => {
      const radius = BONE_RADIUS * (unseen[parent] || unseen[child] ? unseenPart : 1);
      placeBone(this.bones, index, this.points[parent], this.points[child], radius);
      this.bones.paint(index, this.#colour([parent, child], frame));
    });
    this.points.forEach((point, joint) => {
      placeJoint(this.joints, joint, point, JOINT_RADIUS * (unseen[joint] ? unseenPart : 1));
      this.joints.paint(joint, this.#colour([joint], frame));
    });
    this.bones.changed();
    this.joints.changed();
    this.#updateBlob();
    this.#updateLabel(unseen);
    this.trails.mesh.visible = withTrails;
    if (withTrails) this.#updateTrails(frame);
  }

  // Over the head; over the highest joint that is seen where the head is not.
  #updateLabel(unseen) {
    const seen = this.points.filter((_, joint) => !unseen[joint]);
    const highest = (seen.length ? seen : this.points).reduce((a, b) => (b.z > a.z ? b : a));
    const head = this.poses.jointNames.indexOf("head");
    const { x, y } = unseen[head] ? highest : this.points[head];
    this.label.position.set(x, y, highest.z + 0.17);
  }

  // Fainter and larger the higher the hip is.
  #updateBlob() {
    const hip = this.points[0];
    this.blob.position.x = hip.x;
    this.blob.position.y = hip.y;
    this.blob.scale.setScalar(0.9 + 0.5 * clamp(hip.z, 0, 2));
    this.blob.material.opacity = clamp(1.15 - 0.35 * hip.z, 0.2, 1);
  }

  #updateTrails(frame) {
    const { poses, person, trails } = this;
    const earliest = poses.frameAt(poses.times[frame] - TRAIL_SECONDS);
    const stride = Math.max(1, Math.ceil((frame - earliest) / TRAIL_SEGMENTS));
    const [from, to] = [new THREE.Vector3(), new THREE.Vector3()];
    let count = 0;
    for (const name of TRAIL_JOINTS) {
      const joint = poses.jointNames.indexOf(name);
      for (let now = frame; now - stride >= earliest; now -= stride) {
        const before = now - stride;
        if (!poses.isPresent(person, before)) break;
        if (poses.isUnseen(person, joint, before) || poses.isUnseen(person, joint, now)) continue;
        const age = (poses.times[frame] - poses.times[before]) / TRAIL_SECONDS;
        poses.joint(person, joint, before, from);
        poses.joint(person, joint, now, to);
        placeBone(trails, count, from, to, TRAIL_RADIUS * (1 - 0.7 * Math.min(age, 1)));
        const fade = 0.9 * (1 - Math.min(age, 1)) + 0.06;
        trails.paint(count, scratch.colour.lerpColors(this.background, this.colours[joint], fade));
        count += 1;
      }
    }
    trails.changed(count);
  }

  /** World metres of a joint, read from what is drawn; x and y from the person's own origin. */
  jointPosition(joint) {
    if (!this.group.visible) return null;
    const { mesh } = this.joints;
    mesh.updateWorldMatrix(true, false);
    mesh.getMatrixAt(joint, scratch.matrix);
    const place = new THREE.Vector3().setFromMatrixPosition(scratch.matrix);
    place.applyMatrix4(mesh.matrixWorld);
    const origin = new THREE.Vector3(...this.poses.people[this.person].place, 0);
    return place.sub(origin).toArray();
  }

  /** Points in the scene that tell what this person fills over time, with floor and number. */
  reach() {
    const points = [];
    const stride = Math.ceil(this.poses.frames / SAMPLED_FRAMES);
    for (let frame = 0; frame < this.poses.frames; frame++) {
      // Short appearances between samples count too.
      const appears = frame > 0 && !this.poses.isPresent(this.person, frame - 1);
      if (!this.poses.isPresent(this.person, frame) || (frame % stride && !appears)) continue;
      for (let joint = 0; joint < this.poses.jointCount; joint++) {
        points.push(this.poses.joint(this.person, joint, frame, new THREE.Vector3()));
      }
      const own = points.slice(-this.poses.jointCount);
      const top = Math.max(...own.map(({ z }) => z));
      points.push(own[0].clone().setZ(top + 0.25), own[0].clone().setZ(-0.08));
    }
    return points.map((point) => point.add(this.group.position));
  }
}
