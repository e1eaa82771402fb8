/** A chart of lines as SVG, with a legend and round numbers on both axes. */

export type Line = { name: string; points: [x: number, y: number][] };

const WIDTH = 760;
const HEIGHT = 360;
const LEFT = 56;
const RIGHT = 16;
const TOP = 40;
const BOTTOM = 52;
const COLOURS = ["#1f6feb", "#d1570a", "#2da44e", "#8250df", "#cf222e"];
const MAX_POINTS = 240;

export function plot(title: string, xLabel: string, yLabel: string, lines: Line[]): string {
  const points = lines.flatMap((line) => line.points);
  const xMax = roundUp(Math.max(...points.map(([x]) => x)));
  const yMax = roundUp(Math.max(...points.map(([, y]) => y)));
  const x = (value: number) => round(LEFT + (value / xMax) * (WIDTH - LEFT - RIGHT));
  const y = (value: number) => round(HEIGHT - BOTTOM - (value / yMax) * (HEIGHT - TOP - BOTTOM));
  const ticks = [0, 0.2, 0.4, 0.6, 0.8, 1];
  const text = (at: [number, number], anchor: string, words: string, more = "") =>
    `<text x="${at[0]}" y="${at[1]}" text-anchor="${anchor}"${more}>${words}</text>`;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${title}" font-family="sans-serif" font-size="12">`,
    `<title>${title}</title>`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    text([LEFT, 22], "start", title, ' font-size="14" font-weight="bold"'),
    ...ticks.flatMap((tick) => [
      `<path d="M${LEFT} ${y(tick * yMax)}H${WIDTH - RIGHT}" stroke="#ddd"/>`,
      text([LEFT - 8, y(tick * yMax) + 4], "end", format(tick * yMax)),
      text([x(tick * xMax), HEIGHT - BOTTOM + 18], "middle", format(tick * xMax)),
    ]),
    text([(LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12], "middle", xLabel),
    text([14, HEIGHT / 2], "middle", yLabel, ` transform="rotate(-90 14 ${HEIGHT / 2})"`),
  ];
  for (const [index, { name, points: all }] of lines.entries()) {
    const colour = COLOURS[index % COLOURS.length];
    const every = Math.ceil(all.length / MAX_POINTS);
    const kept = all.filter((_, n) => n % every === 0 || n === all.length - 1);
    const path = kept.map(([px, py], n) => `${n === 0 ? "M" : "L"}${x(px)} ${y(py)}`).join("");
    const row = HEIGHT - BOTTOM - 14 - 18 * (lines.length - 1 - index);
    parts.push(
      `<path d="${path}" fill="none" stroke="${colour}" stroke-width="2"/>`,
      text([WIDTH - RIGHT - 8, row], "end", name, ` fill="${colour}"`),
    );
  }
  return `${parts.join("\n")}\n</svg>\n`;
}

/** The next number that divides into fifths well. */
function roundUp(value: number): number {
  const scale = 10 ** Math.floor(Math.log10(value));
  return scale * ([1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].find((step) => step * scale >= value * (1 - 1e-9)) as number);
}

const round = (value: number) => Math.round(value * 10) / 10;

const format = (value: number) => Number(value.toPrecision(3)).toLocaleString("en");
