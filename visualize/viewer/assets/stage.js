// The 3D scene: skeletons, floor, light and camera.

import * as THREE from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";

import { pixelRatio } from "gridpose/page.js";
import { Skeleton, UP, sharedShapes } from "gridpose/skeleton.js";

const FIELD_OF_VIEW = 32;
const MARGIN = 1.12;

/** A floor that fades into the background, with lines every half metre and every two metres. */
function makeFloor() {
  const material = new THREE.ShaderMaterial({
    transparent: true,
    depthWrite: false,
    side: THREE.DoubleSide,
    uniforms: {
      ground: { value: new THREE.Color() },
      line: { value: new THREE.Color() },
      centre: { value: new THREE.Vector2() },
      reach: { value: 4 },
    },
    vertexShader: `
      varying vec2 place;
      void main() {
        vec4 world = modelMatrix * vec4(position, 1.0);
        place = world.xy;
        gl_Position = projectionMatrix * viewMatrix * world;
      }`,
    fragmentShader: `
      varying vec2 place;
      uniform vec3 ground;
      uniform vec3 line;
      uniform vec2 centre;
      uniform float reach;

      // How much of a line of a given width in pixels covers this one. Where lines come closer
      // than a few pixels they melt into an even tone instead of flickering.
      float lines(vec2 at, float pixels) {
        vec2 width = fwidth(at);
        vec2 away = abs(fract(at - 0.5) - 0.5) / width;
        vec2 cover = clamp(0.5 + 0.5 * pixels - away, 0.0, 1.0) * clamp(0.35 / width - 0.6, 0.0, 1.0);
        return max(cover.x, cover.y);
      }

      void main() {
        float fine = 0.55 * lines(place / 0.5, 1.0);
        float coarse = lines(place / 2.0, 1.4);
        float fade = 1.0 - smoothstep(0.45, 1.0, distance(place, centre) / reach);
        gl_FragColor = vec4(mix(ground, line, max(fine, coarse)), fade);
        #include <colorspace_fragment>
      }`,
  });
  const mesh = new THREE.Mesh(new THREE.PlaneGeometry(2, 2), material);
  mesh.renderOrder = 0;
  return mesh;
}

/** From where each view looks: a direction from the middle of the scene to the camera. */
function viewDirection(view) {
  const turned = (azimuth, elevation) => {
    const [a, e] = [THREE.MathUtils.degToRad(azimuth), THREE.MathUtils.degToRad(elevation)];
    return new THREE.Vector3(
      Math.sin(a) * Math.cos(e), -Math.cos(a) * Math.cos(e), Math.sin(e),
    );
  };
  return {
    front: turned(0, 4),
    side: turned(90, 4),
    top: turned(0, 89.9),
    perspective: turned(28, 16),
  }[view];
}

/** The 3D scene: skeletons, floor, light, camera. Draws only when asked. */
export class Stage {
  constructor(canvas, poses, onChange) {
    this.poses = poses;
    this.canvas = canvas;
    this.renderer = new THREE.WebGLRenderer({ canvas, antialias: true });
    this.scene = new THREE.Scene();
    this.scene.background = new THREE.Color();
    this.camera = new THREE.PerspectiveCamera(FIELD_OF_VIEW, 1, 0.05, 500);
    this.camera.up.copy(UP);
    this.floor = makeFloor();
    this.scene.add(this.floor, ...this.#lights());

    const shapes = sharedShapes();
    this.skeletons = poses.people.map((_, person) => new Skeleton(poses, person, shapes));
    this.scene.add(...this.skeletons.map((skeleton) => skeleton.group));
    this.#measure();

    this.withTrails = false;
    this.frame = 0;
    this.framesDrawn = 0;
    this.view = null;
    this.onView = () => {};
    this.controls = this.#controls(onChange);
  }

  #lights() {
    const sky = new THREE.HemisphereLight(0xffffff, 0xb8bcc8, 2.3);
    sky.position.copy(UP);
    const sun = new THREE.DirectionalLight(0xffffff, 1.5);
    sun.position.set(-2, -3, 5);
    return [sky, sun];
  }

  // Found once: looking through a long file takes a moment.
  #measure() {
    this.reaches = this.skeletons.map((skeleton) => skeleton.reach());
    const all = new THREE.Box3().setFromPoints(this.#reach(() => true));
    const [centre, size] = [all.getCenter(new THREE.Vector3()), all.getSize(new THREE.Vector3())];
    const radius = 2.2 + Math.hypot(size.x, size.y) * 0.9;
    const { uniforms } = this.floor.material;
    uniforms.centre.value.set(centre.x, centre.y);
    uniforms.reach.value = radius;
    this.floor.position.set(centre.x, centre.y, 0);
    this.floor.scale.set(radius, radius, 1);
  }

  /** What those who are chosen fill; when that is nobody, everybody. */
  #reach(chosen) {
    const points = this.reaches.filter((_, i) => chosen(this.skeletons[i])).flat();
    if (points.length) return points;
    const all = this.reaches.flat();
    return all.length ? all : [new THREE.Vector3(-1, -1, 0), new THREE.Vector3(1, 1, 1.8)];
  }

  #controls(onChange) {
    const controls = new OrbitControls(this.camera, this.canvas);
    controls.enableDamping = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    controls.dampingFactor = 0.12;
    controls.maxPolarAngle = Math.PI / 2;
    controls.minDistance = 0.4;
    controls.maxDistance = 120;
    controls.zoomToCursor = true;
    controls.addEventListener("change", onChange);
    controls.addEventListener("start", () => {
      this.view = null;
      this.onView(null);
    });
    return controls;
  }

  setTheme(name) {
    const stage = this.poses.stage[name];
    this.scene.background.set(stage.background);
    this.floor.material.uniforms.ground.value.set(stage.floor);
    this.floor.material.uniforms.line.value.set(stage.grid);
    this.skeletons.forEach((skeleton) => skeleton.setTheme(name, stage));
    this.showFrame(this.frame);
  }

  showFrame(frame) {
    this.frame = frame;
    this.skeletons.forEach((skeleton) => skeleton.update(frame, this.withTrails));
  }

  setView(view) {
    this.view = view;
    const points = this.#reach((skeleton) => skeleton.shown);
    const centre = new THREE.Box3().setFromPoints(points).getCenter(new THREE.Vector3());
    const direction = viewDirection(view);
    this.controls.target.copy(centre);
    this.camera.position.copy(centre).add(direction);
    this.camera.lookAt(centre);
    this.camera.updateMatrixWorld();
    this.camera.position.copy(centre).addScaledVector(direction, this.#distance(points, centre));
    this.controls.update();
    this.onView(view);
  }

  /** How far from ``centre`` the camera, turned as it is, sees all points. */
  #distance(points, centre) {
    const [right, up, back] = [0, 1, 2].map((axis) =>
      new THREE.Vector3().setFromMatrixColumn(this.camera.matrixWorld, axis),
    );
    const tall = Math.tan(THREE.MathUtils.degToRad(FIELD_OF_VIEW / 2)) / MARGIN;
    const wide = tall * this.camera.aspect;
    const offset = new THREE.Vector3();
    let distance = 1;
    for (const point of points) {
      offset.subVectors(point, centre);
      const aside = Math.max(Math.abs(offset.dot(right)) / wide, Math.abs(offset.dot(up)) / tall);
      distance = Math.max(distance, aside + offset.dot(back));
    }
    return distance;
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    this.renderer.setPixelRatio(pixelRatio());
    this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    this.camera.updateProjectionMatrix();
    // A view that nobody has turned yet keeps showing everybody.
    if (this.view) this.setView(this.view);
  }

  draw() {
    this.controls.update();
    this.renderer.render(this.scene, this.camera);
    this.framesDrawn += 1;
  }
}
