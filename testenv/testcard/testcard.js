// Reads the machine-readable clock of a test card from an ImageData (or anything with data, width, height):
// returns Unix milliseconds, or null when the picture is no test card or too damaged to be sure.
// The layout is described in cells.go; change both together.
function decodeTestCard(imageData) {
  'use strict';
  const columns = 40, rows = 2, rowsPerFrame = 22.5, sync = 4, minContrast = 48;
  const w = imageData.width, h = imageData.height, px = imageData.data;
  if (!(w > 0) || !(h > 0) || px.length < w * h * 4) return null;

  const isSync = (col) => col < sync || col >= columns - sync;
  const syncWhite = (row, col) => {
    let white = col % 2 === 0;
    if (col >= columns / 2) white = !white;
    return white !== (row === 1);
  };
  const middle = (i, size, per) => {
    const from = Math.floor((i + 0.25) * size / per);
    return [from, Math.max(Math.floor((i + 0.75) * size / per), from + 1)];
  };
  const cellMean = (row, col) => {
    const [x0, x1] = middle(col, w, columns), [y0, y1] = middle(row, h, rowsPerFrame);
    let sum = 0;
    for (let y = y0; y < y1; y++) {
      for (let x = x0; x < x1; x++) {
        const p = (y * w + x) * 4;
        sum += (77 * px[p] + 150 * px[p + 1] + 29 * px[p + 2]) >> 8;
      }
    }
    return Math.floor(sum / ((x1 - x0) * (y1 - y0)));
  };

  const level = [];
  let whites = 0, blacks = 0;
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < columns; col++) {
      const mean = cellMean(row, col);
      level.push(mean);
      if (!isSync(col)) continue;
      if (syncWhite(row, col)) whites += mean; else blacks += mean;
    }
  }
  whites = Math.floor(whites / (rows * sync));
  blacks = Math.floor(blacks / (rows * sync));
  if (whites - blacks < minContrast) return null;

  const threshold = Math.floor((whites + blacks) / 2), bits = [];
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < columns; col++) {
      const white = level[row * columns + col] > threshold;
      if (!isSync(col)) bits.push(white ? 1 : 0);
      else if (white !== syncWhite(row, col)) return null;
    }
  }

  // 48 bits do not fit JavaScript's 32-bit shifts: the time is summed up, the checksum runs bit by bit.
  let unixMs = 0, crc = 0xFFFF, sent = 0;
  for (let i = 0; i < 48; i++) {
    unixMs = unixMs * 2 + bits[i];
    const carry = (crc >> 15) ^ bits[i];
    crc = (crc << 1) & 0xFFFF;
    if (carry) crc ^= 0x1021;
  }
  for (let i = 48; i < 64; i++) sent = sent * 2 + bits[i];
  return crc === sent ? unixMs : null;
}
