import { encode } from 'fast-png';
import { type getDocumentProxy, getResolvedPDFJS } from 'unpdf';

type PdfDocument = Awaited<ReturnType<typeof getDocumentProxy>>;
export type PdfPage = Awaited<ReturnType<PdfDocument['getPage']>>;

/** Smaller pictures are ornaments, larger ones (A4 at 600 dpi) take too much memory. */
export const MIN_PICTURE_PIXELS = 40_000;
export const MAX_PICTURE_PIXELS = 36_000_000;
/** Pixels of the longer side, about A4 at 200 dpi: models that read pictures make them smaller than that. */
const MAX_SIDE = 2400;
const MOST_LOOKED_AT = 200;

/** A picture that a page shows, by its name within the parser. */
export interface PagePicture {
  id: string;
  width: number;
  height: number;
}

export interface PagePictures {
  /** Those that could hold text, from the top of the page down; of several that lie over one another the largest. */
  pictures: PagePicture[];
  /** How much of the page they cover, from 0 to 1. */
  coverage: number;
  /** The same, with the places of pictures that the parser has left out for their size. */
  placedCoverage: number;
}

/** On the page, in points from its upper left corner. */
interface Box {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

/** The six numbers of a transformation (ISO 32000-1, 8.3.3). */
type Matrix = readonly number[];

interface DecodedPicture {
  width: number;
  height: number;
  data: Uint8Array | Uint8ClampedArray;
  /** Of `ImageKind`; masks have none and are black where a bit is 0. */
  kind?: number;
}

/** The pictures of a page, and where they stand on it. */
export async function picturesOf(page: PdfPage): Promise<PagePictures> {
  const { OPS } = await getResolvedPDFJS();
  const { fnArray, argsArray } = await page.getOperatorList();
  const { width, height, transform } = page.getViewport({ scale: 1 });
  const found: { picture: PagePicture; box: Box }[] = [];
  const saved: Matrix[] = [];
  let matrix: Matrix = transform;
  let largestPlace = 0;
  for (const [index, operator] of fnArray.entries()) {
    const args: unknown = argsArray[index];
    if (operator === OPS.save || operator === OPS.paintFormXObjectBegin) saved.push(matrix);
    if (operator === OPS.restore || operator === OPS.paintFormXObjectEnd) matrix = saved.pop() ?? matrix;
    const change =
      operator === OPS.transform ? args : operator === OPS.paintFormXObjectBegin ? formMatrix(args) : null;
    if (isMatrix(change)) {
      matrix = multiplied(matrix, change);
      // Nothing but a picture is drawn in a square that is as large as the page.
      largestPlace = Math.max(largestPlace, areaOf(unitSquare(matrix, width, height)));
    }
    const picture = pictureOf(operator, args, OPS);
    if (picture && pixelsOf(picture) >= MIN_PICTURE_PIXELS) {
      found.push({ picture, box: unitSquare(matrix, width, height) });
    }
  }
  const shown = besideOneAnother(found);
  const coverage = Math.min(1, shown.reduce((sum, { box }) => sum + areaOf(box), 0) / (width * height));
  return {
    pictures: shown.map(({ picture }) => picture),
    coverage,
    placedCoverage: Math.max(coverage, largestPlace / (width * height)),
  };
}

/** Scanners lay several pictures of one page over one another: the writing, and the paper behind it. */
function besideOneAnother<T extends { picture: PagePicture; box: Box }>(all: readonly T[]): T[] {
  const chosen: T[] = [];
  // Of pages with more, the larger ones: looking for those that overlap takes time with the square of their number.
  const largest = all.toSorted((a, b) => pixelsOf(b.picture) - pixelsOf(a.picture)).slice(0, MOST_LOOKED_AT);
  for (const one of largest) {
    const covered = (other: T) =>
      areaOf(common(one.box, other.box)) * 2 >= Math.min(areaOf(one.box), areaOf(other.box));
    if (!chosen.some(covered)) chosen.push(one);
  }
  return chosen.toSorted((a, b) => Math.round(a.box.top) - Math.round(b.box.top) || a.box.left - b.box.left);
}

const pixelsOf = ({ width, height }: PagePicture): number => width * height;

const areaOf = ({ left, top, right, bottom }: Box): number =>
  Math.max(0, right - left) * Math.max(0, bottom - top);

const common = (a: Box, b: Box): Box => ({
  left: Math.max(a.left, b.left),
  top: Math.max(a.top, b.top),
  right: Math.min(a.right, b.right),
  bottom: Math.min(a.bottom, b.bottom),
});

/** Where pictures are drawn: the square from (0, 0) to (1, 1), as far as it lies on the page. */
function unitSquare([a = 0, b = 0, c = 0, d = 0, e = 0, f = 0]: Matrix, width: number, height: number): Box {
  const box = {
    left: e + Math.min(0, a) + Math.min(0, c),
    right: e + Math.max(0, a) + Math.max(0, c),
    top: f + Math.min(0, b) + Math.min(0, d),
    bottom: f + Math.max(0, b) + Math.max(0, d),
  };
  return common(box, { left: 0, top: 0, right: width, bottom: height });
}

function multiplied([a = 1, b = 0, c = 0, d = 1, e = 0, f = 0]: Matrix, inner: Matrix): Matrix {
  const [p = 1, q = 0, r = 0, s = 1, t = 0, u = 0] = inner;
  return [a * p + c * q, b * p + d * q, a * r + c * s, b * r + d * s, a * t + c * u + e, b * t + d * u + f];
}

const isMatrix = (value: unknown): value is Matrix =>
  value instanceof Object && 'length' in value && value.length === 6;

const formMatrix = (args: unknown): unknown => (Array.isArray(args) ? (args[0] as unknown) : null);

function pictureOf(operator: number, args: unknown, ops: Record<string, number>): PagePicture | null {
  if (!Array.isArray(args)) return null;
  if (operator === ops['paintImageXObject']) {
    const [id, width, height] = args as [string, number, number];
    return { id, width, height };
  }
  if (operator === ops['paintImageMaskXObject']) {
    const { data, width, height } = args[0] as { data: unknown; width: number; height: number };
    return typeof data === 'string' ? { id: data, width, height } : null;
  }
  return null;
}

/** A picture of a page as PNG, made smaller where it is large; null where it could not be decoded. */
export async function pngOf(page: PdfPage, { id }: PagePicture): Promise<Uint8Array | null> {
  const objects = id.startsWith('g_') ? page.commonObjs : page.objs;
  const decoded = await new Promise<DecodedPicture | null>(resolve => objects.get(id, resolve));
  if (!decoded?.data) return null;
  const { ImageKind } = await getResolvedPDFJS();
  const { kind = ImageKind.GRAYSCALE_1BPP } = decoded;
  if (kind === ImageKind.GRAYSCALE_1BPP) return png(decoded, 1, addBits);
  return png(decoded, 3, kind === ImageKind.RGBA_32BPP ? addOpaque : addColours);
}

/** Adds the values (0-255) of row `y` to those of the pixels that they become part of, `step` to one. */
type AddRow = (sums: Float64Array, picture: DecodedPicture, y: number, step: number) => void;

const addBits: AddRow = (sums, { data, width }, y, step) => {
  const start = y * ((width + 7) >> 3);
  for (let to = 0, x = 0; to < sums.length; to++) {
    for (let column = 0; column < step; column++, x++) {
      if ((data[start + (x >> 3)]! >> (7 - (x & 7))) & 1) sums[to]! += 255;
    }
  }
};

const addColours: AddRow = (sums, { data, width }, y, step) => {
  let from = y * width * 3;
  for (let to = 0; to < sums.length; to += 3) {
    for (let column = 0; column < step; column++, from += 3) {
      sums[to]! += data[from]!;
      sums[to + 1]! += data[from + 1]!;
      sums[to + 2]! += data[from + 2]!;
    }
  }
};

/** Over white. */
const addOpaque: AddRow = (sums, { data, width }, y, step) => {
  let from = y * width * 4;
  for (let to = 0; to < sums.length; to += 3) {
    for (let column = 0; column < step; column++, from += 4) {
      const alpha = data[from + 3]! / 255;
      for (let channel = 0; channel < 3; channel++) {
        sums[to + channel]! += 255 - (255 - data[from + channel]!) * alpha;
      }
    }
  }
};

/** Each pixel is the mean of those that it stands for. */
function png(picture: DecodedPicture, channels: 1 | 3, addRow: AddRow): Uint8Array {
  const longer = Math.max(picture.width, picture.height);
  const step = Math.min(Math.ceil(longer / MAX_SIDE), picture.width, picture.height);
  const width = Math.floor(picture.width / step);
  const height = Math.floor(picture.height / step);
  const data = new Uint8Array(width * height * channels);
  const sums = new Float64Array(width * channels);
  for (let y = 0; y < height; y++) {
    sums.fill(0);
    for (let row = 0; row < step; row++) addRow(sums, picture, y * step + row, step);
    for (let at = 0; at < sums.length; at++) data[y * sums.length + at] = sums[at]! / (step * step);
  }
  const grey = channels === 3 && isGrey(data) ? everyThird(data) : null;
  return encode(
    grey ? { width, height, data: grey, channels: 1, depth: 8 } : { width, height, data, channels, depth: 8 },
    { zlib: { level: 3 } },
  );
}

/** Whether red, green and blue are the same everywhere, as in most scans. */
function isGrey(data: Uint8Array): boolean {
  for (let at = 0; at < data.length; at += 3) {
    if (data[at] !== data[at + 1] || data[at] !== data[at + 2]) return false;
  }
  return true;
}

function everyThird(data: Uint8Array): Uint8Array {
  const values = new Uint8Array(data.length / 3);
  for (let at = 0; at < values.length; at++) values[at] = data[at * 3]!;
  return values;
}
