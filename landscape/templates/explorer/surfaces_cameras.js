// The camera that all scenes share, and where it sees a point.
"use strict";

const cameras = (() => {
  const alike = (a, b) => ["eye", "center"].every((key) => ["x", "y", "z"].every((axis) => Math.abs(a[key][axis] - b[key][axis]) < 1e-6));

  // A camera that is turned around the vertical and upwards (radians), and moved away by a factor.
  function turned({ eye, center }, around, up, factor) {
    const [x, y, z] = ["x", "y", "z"].map((axis) => eye[axis] - center[axis]);
    const distance = Math.min(Math.max(Math.hypot(x, y, z) * factor, 0.3), 10);
    const azimuth = Math.atan2(y, x) + around;
    const height = Math.min(Math.max(Math.asin(z / Math.hypot(x, y, z)) + up, -1.5), 1.5);
    const flat = distance * Math.cos(height);
    return {
      eye: { x: center.x + flat * Math.cos(azimuth), y: center.y + flat * Math.sin(azimuth), z: center.z + distance * Math.sin(height) },
      center,
    };
  }

  const times = (m, v) => [0, 1, 2, 3].map((i) => m[i] * v[0] + m[4 + i] * v[1] + m[8 + i] * v[2] + m[12 + i] * v[3]);

  // Pixels of a point within a scene, by the matrices that it is drawn with; null where it lies behind the camera or
  // the scene is not drawn yet.
  function seen(chart, { x, y }, z) {
    const inner = chart._fullLayout?.scene?._scene;
    const lenses = inner?.glplot?.cameraParams;
    if (!lenses || !inner.dataScale) return null;
    const point = [x, y, z].map((value, i) => value * inner.dataScale[i]);
    const [px, py, , w] = times(lenses.projection, times(lenses.view, times(lenses.model, [...point, 1])));
    if (!(w > 0)) return null;
    return [(0.5 + (0.5 * px) / w) * chart.clientWidth, (0.5 - (0.5 * py) / w) * chart.clientHeight];
  }

  return { alike, turned, seen };
})();
