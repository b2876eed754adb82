// The poses of everybody, unpacked.
//
// World axes as in pose files: metres, x right and y away as the filming camera saw it, z up.

const UNSEEN = -32768;

const TYPES = {
  float64: Float64Array,
  int32: Int32Array,
  int16: Int16Array,
  uint8: Uint8Array,
};

/** Numbers from their first bytes, then their second ones, ... */
function fromPlanes(planes, type, count) {
  const size = type.BYTES_PER_ELEMENT;
  const bytes = new Uint8Array(count * size);
  for (let place = 0; place < size; place++) {
    for (let i = 0; i < count; i++) bytes[i * size + place] = planes[place * count + i];
  }
  return new type(bytes.buffer);
}

/** Changes from frame to frame back to values, in place; typed arrays wrap around as NumPy does. */
function addUp(series, frames) {
  for (let i = 0; i < series.length; i++) {
    if (i % frames) series[i] += series[i - 1];
  }
}

/** The poses of everybody: arrays by person, then joint and coordinate, then frame. */
export class Poses {
  constructor(header, buffer) {
    Object.assign(this, header);
    let start = 0;
    for (const { name, type, count } of header.arrays) {
      const size = count * TYPES[type].BYTES_PER_ELEMENT;
      this[name] = fromPlanes(new Uint8Array(buffer, start, size), TYPES[type], count);
      if (type !== "float64") addUp(this[name], header.frames);
      start += size;
    }
    this.jointCount = header.jointNames.length;
    const gaps = Array.from(this.times.subarray(1), (time, i) => time - this.times[i]);
    this.interval = gaps.length ? gaps.sort((a, b) => a - b)[gaps.length >> 1] || 0.04 : 0.04;
    this.first = this.times[0];
    this.end = this.times[this.frames - 1] + this.interval;
  }

  isPresent(person, frame) {
    return this.present[person * this.frames + frame] === 1;
  }

  confidenceOf(person, joint, frame) {
    return this.confidence[(person * this.jointCount + joint) * this.frames + frame] / 255;
  }

  /** Whether nobody saw a joint: it is outside the picture, or hidden. */
  isUnseen(person, joint, frame) {
    return this.confidenceOf(person, joint, frame) === 0;
  }

  /** World metres into ``target``; x and y from the person's own origin. */
  joint(person, joint, frame, target) {
    const root = person * 3 * this.frames + frame;
    const own = (person * this.jointCount + joint) * 3 * this.frames + frame;
    const metres = (axis) =>
      (this.roots[root + axis * this.frames] + this.joints[own + axis * this.frames]) / 1000;
    return target.set(metres(0), metres(1), metres(2));
  }

  /** Picture coordinates [x, y] in pixels, or null. */
  keypoint(person, joint, frame) {
    const own = (person * this.jointCount + joint) * 2 * this.frames + frame;
    const x = this.keypoints[own];
    const y = this.keypoints[own + this.frames];
    return x === UNSEEN ? null : [x * this.keypointStep, y * this.keypointStep];
  }

  /** 0 to 1: as sure as the least certain joint, never invisible. */
  opacity(person, joints, frame) {
    const surest = Math.min(...joints.map((joint) => this.confidenceOf(person, joint, frame)));
    return this.faintest + (1 - this.faintest) * surest;
  }

  /** The frame nearest in time: frames may be unevenly spaced. */
  frameAt(time) {
    let low = 0;
    let high = this.frames - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.times[middle] < time) low = middle + 1;
      else high = middle;
    }
    const before = Math.max(low - 1, 0);
    return time - this.times[before] < this.times[low] - time ? before : low;
  }
}
