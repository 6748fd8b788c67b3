// Brings a picture to the model's shape as stages/lib/geometry.py does it: colour, size, centre crop or padding.

const LUMINANCE = [0.2126, 0.7152, 0.0722];

// planes: one Float32Array of height x width a channel. Returns a Uint8Array of channels x shape.
export function fit(planes, height, width, [channels, wantedHeight, wantedWidth], geometry) {
  const coloured = recolour(planes, channels, geometry.colour);
  const [targetHeight, targetWidth] = targetSize([height, width], [wantedHeight, wantedWidth], geometry);
  const result = new Uint8Array(channels * wantedHeight * wantedWidth);
  coloured.forEach((plane, c) => {
    const resized = resample(plane, height, width, targetHeight, targetWidth);
    const out = result.subarray(c * wantedHeight * wantedWidth, (c + 1) * wantedHeight * wantedWidth);
    cropOrPad(resized, targetHeight, targetWidth, out, wantedHeight, wantedWidth, geometry.fill);
  });
  return result;
}

function recolour(planes, channels, colour) {
  if (planes.length === channels) return planes;
  if (channels === 3) return [planes[0], planes[0], planes[0]];
  const weights = { grey_luminance: LUMINANCE, grey_mean: [1 / 3, 1 / 3, 1 / 3] }[colour];
  if (channels !== 1 || !weights) throw new Error(`the picture has 3 channels, the model takes ${channels}`);
  return [planes[0].map((_, i) => planes.reduce((sum, plane, c) => sum + weights[c] * plane[i], 0))];
}

function targetSize(size, wanted, geometry) {
  if (geometry.spacing_mm) throw new Error("the model resamples to a spacing, which a picture does not tell");
  const scale = geometry.resize
    ? geometry.resize / Math.min(...size)
    : Math.max(...size.map((n, i) => wanted[i] / n)); // the smallest that covers the shape
  return size.map((n) => Math.max(1, roundHalfToEven(n * scale)));
}

// Bilinear with the triangle filter, antialiased where the picture gets smaller; rows first, then columns.
function resample(plane, height, width, targetHeight, targetWidth) {
  const rows = width === targetWidth ? plane : along(plane, height, width, targetWidth);
  if (height === targetHeight) return rows;
  return transposed(
    along(transposed(rows, height, targetWidth), targetWidth, height, targetHeight),
    targetWidth, targetHeight);
}

function along(lines, count, n, target) {
  const result = new Float32Array(count * target);
  const scale = n / target;
  const support = Math.max(1, scale);
  for (let i = 0; i < target; i++) {
    const centre = scale * (i + 0.5);
    const first = Math.max(Math.trunc(centre - support + 0.5), 0);
    const last = Math.min(Math.trunc(centre + support + 0.5), n);
    const weights = [];
    for (let j = first; j < last; j++) weights.push(Math.max(0, 1 - Math.abs((j - centre + 0.5) / support)));
    const total = weights.reduce((a, b) => a + b);
    for (let y = 0; y < count; y++) {
      let sum = 0;
      for (let j = first; j < last; j++) sum += weights[j - first] * lines[y * n + j];
      result[y * target + i] = sum / total;
    }
  }
  return result;
}

function transposed(plane, height, width) {
  const result = new Float32Array(plane.length);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) result[x * height + y] = plane[y * width + x];
  return result;
}

// Keeps the centre; an odd pixel goes to the end.
function cropOrPad(plane, height, width, out, wantedHeight, wantedWidth, fill) {
  const top = offset(height, wantedHeight);
  const left = offset(width, wantedWidth);
  for (let y = 0; y < wantedHeight; y++) {
    for (let x = 0; x < wantedWidth; x++) {
      const inside = y + top >= 0 && y + top < height && x + left >= 0 && x + left < width;
      const value = roundHalfToEven(inside ? plane[(y + top) * width + x + left] : fill);
      out[y * wantedWidth + x] = Math.min(255, Math.max(0, value));
    }
  }
}

function offset(n, wanted) {
  return n > wanted ? roundHalfToEven((n - wanted) / 2) : -Math.floor((wanted - n) / 2);
}

function roundHalfToEven(value) {
  const below = Math.floor(value);
  const rest = value - below;
  return rest < 0.5 || (rest === 0.5 && below % 2 === 0) ? below : below + 1;
}
