import type { Spread } from "./statistics.ts";

export type Series = { name: string; points: { x: number; y: Spread }[] };

const WIDTH = 560;
const HEIGHT = 340;
const PLACE = { left: 58, right: 130, top: 34, bottom: 44 };
const COLOURS = [
  "#d1495b",
  "#30638e",
  "#66a182",
  "#edae49",
  "#8d6a9f",
  "#00798c",
  "#5c4742",
  "#a2a77f",
  "#e07be0",
  "#444",
  "#2e8b57",
];

/** Medians joined by lines on two logarithmic axes, each with a bar from the least to the most, as an SVG. */
export function linePlot(title: string, xLabel: string, series: Series[]): string {
  const drawn = series.filter(({ points }) => points.length > 0);
  const xs = drawn.flatMap(({ points }) => points.map(({ x }) => x));
  const ys = drawn.flatMap(({ points }) => points.flatMap(({ y }) => [y.min, y.max])).filter((y) => y > 0);
  const x = axis(xs, PLACE.left, WIDTH - PLACE.right);
  const y = axis(ys, HEIGHT - PLACE.bottom, PLACE.top);
  const lines = drawn.map(({ name, points }, index) => {
    const colour = COLOURS[index % COLOURS.length];
    const path = points.map((point) => `${x.at(point.x)},${y.at(point.y.median)}`).join(" ");
    const bars = points.map(
      (point) =>
        `<path d="M${x.at(point.x)} ${y.at(point.y.min)}V${y.at(point.y.max)}"/><circle cx="${x.at(point.x)}" cy="${y.at(point.y.median)}" r="3" fill="${colour}"/>`,
    );
    const legend = PLACE.top + 8 + 18 * index;
    return `<g stroke="${colour}" fill="none" stroke-width="2"><polyline points="${path}"/>${bars.join("")}<path d="M${WIDTH - PLACE.right + 10} ${legend}h14"/></g><text x="${WIDTH - PLACE.right + 28}" y="${legend + 4}">${name}</text>`;
  });
  const grid = [
    ...x.ticks.map(
      (tick) =>
        `<path d="M${x.at(tick)} ${PLACE.top}V${HEIGHT - PLACE.bottom}"/><text x="${x.at(tick)}" y="${HEIGHT - PLACE.bottom + 16}" text-anchor="middle">${label(tick)}</text>`,
    ),
    ...y.ticks.map(
      (tick) =>
        `<path d="M${PLACE.left} ${y.at(tick)}H${WIDTH - PLACE.right}"/><text x="${PLACE.left - 6}" y="${y.at(tick) + 4}" text-anchor="end">${label(tick)}</text>`,
    ),
  ];
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="11">
<style>text{fill:#333}path{stroke-linecap:round}</style><rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>
<text x="${PLACE.left}" y="20" font-size="13" font-weight="bold">${title}</text>
<g stroke="#ddd">${grid.join("").replaceAll("<text", '<text stroke="none"')}</g>
${lines.join("\n")}
<text x="${(PLACE.left + WIDTH - PLACE.right) / 2}" y="${HEIGHT - 8}" text-anchor="middle">${xLabel}</text>
</svg>
`;
}

/** Logarithmic, with ticks at 1, 2, 5, 10, ... */
function axis(values: number[], from: number, to: number) {
  const least = Math.min(...values) / 1.1;
  const most = Math.max(...values) * 1.1;
  const span = Math.log(most / least) || 1;
  const ticks: number[] = [];
  for (let power = -3; power < 7; power += 1)
    for (const step of [1, 2, 5]) {
      const tick = step * 10 ** power;
      if (tick >= least && tick <= most) ticks.push(tick);
    }
  const at = (value: number) =>
    Math.round(from + ((to - from) * Math.log(Math.max(value, least) / least)) / span);
  return { ticks, at };
}

function label(tick: number): string {
  return tick.toLocaleString("en-GB", { maximumFractionDigits: 3 });
}
