// Charts, drawn as SVG: a small line, a line or area over time, a waterfall of phases.

import { el, svg, seconds } from './ui.js';

/** The time that charts show, in seconds: as much as is known, at most five minutes. */
const SPANS = [60, 120, 300];

const span = (points) => {
  const known = points.length ? (points.at(-1).at - points[0].at) / 1000 : 0;
  return SPANS.find((one) => known <= one) ?? SPANS.at(-1);
};

const path = (points) => points.map(([x, y], at) => `${at ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`).join('');

/** A small line without axes. */
export class Spark {
  constructor(tone) {
    this.line = svg('path', { class: `line ${tone}` });
    this.area = svg('path', { class: `area ${tone}` });
    this.node = svg('svg', { class: 'spark', viewBox: '0 0 120 32', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, this.area, this.line);
  }

  update(points) {
    const known = points.filter((point) => point.value !== null);
    const top = Math.max(...known.map((point) => point.value), 1e-9) * 1.1;
    const last = points.at(-1)?.at ?? 0;
    const whole = span(points);
    const places = known.map(({ at, value }) => [120 - ((last - at) / 1000 / whole) * 120, 31 - (value / top) * 29]);
    this.line.setAttribute('d', path(places));
    this.area.setAttribute('d', places.length > 1 ? `${path(places)}L120 32L${places[0][0].toFixed(1)} 32Z` : '');
  }
}

const HIGH = 190;
const SIDE = { left: 46, right: 8, top: 10, bottom: 22 };

/**
 * Lines, or areas upon each other, over the last minutes. `lines`: `{ name, tone }`; `show` makes text of a
 * value.
 */
export class Chart {
  constructor(label, lines, show, stacked) {
    Object.assign(this, { lines, show, stacked, sets: [] });
    this.grid = svg('g', { class: 'grid' });
    this.marks = svg('g');
    this.wide = 640;
    this.cross = svg('line', { class: 'cross', y1: SIDE.top, y2: HIGH - SIDE.bottom });
    this.paths = lines.map((line) => svg('path', { class: `${stacked ? 'stack' : 'line'} ${line.tone}` }));
    this.marks.append(...this.paths);
    this.plot = svg('svg', { viewBox: `0 0 ${this.wide} ${HIGH}`, role: 'img', 'aria-label': label }, this.grid, this.marks, this.cross);
    this.values = lines.map(() => el('b'));
    this.at = el('span.at');
    const legend = lines.map((line, at) => el('li', el(`span.key.${line.tone}`), line.name, ' ', this.values[at]));
    this.node = el('figure.chart', this.plot, el('figcaption', el('ul.legend', legend), this.at));
    this.plot.addEventListener('pointermove', (event) => this.point(event));
    this.plot.addEventListener('pointerleave', () => { this.picked = null; this.legend(); });
  }

  /** `sets`: the points of each line, all at the same times. */
  update(sets) {
    this.sets = sets;
    // As wide as there is room, so that text has its own size.
    this.wide = Math.max(260, Math.round(this.plot.getBoundingClientRect().width) || 640);
    this.plot.setAttribute('viewBox', `0 0 ${this.wide} ${HIGH}`);
    const first = sets[0] ?? [];
    const last = first.at(-1)?.at ?? Date.now();
    const whole = span(first);
    this.x = (at) => this.wide - SIDE.right - ((last - at) / 1000 / whole) * (this.wide - SIDE.left - SIDE.right);
    const sums = first.map((_, at) => sets.map((set) => set[at]?.value ?? 0));
    const tops = sums.map((values) => (this.stacked ? values.reduce((a, b) => a + b, 0) : Math.max(...values)));
    // Where there is next to nothing: one request, or a millisecond.
    const top = nice(Math.max(...tops, this.stacked ? 1 : 0.001));
    const y = (value) => HIGH - SIDE.bottom - (value / top) * (HIGH - SIDE.top - SIDE.bottom);
    this.axes(top, y, whole);
    const below = first.map(() => 0);
    sets.forEach((set, line) => {
      const known = set.map((point, at) => [point, at]).filter(([point]) => point.value !== null);
      const upper = known.map(([point, at]) => {
        if (this.stacked) below[at] += point.value;
        return [this.x(point.at), y(this.stacked ? below[at] : point.value)];
      });
      let d = path(upper);
      if (this.stacked && upper.length > 1) {
        const lower = known.map(([point, at]) => [this.x(point.at), y(below[at] - point.value)]).reverse();
        d += `L${path(lower).slice(1)}Z`;
      }
      this.paths[line].setAttribute('d', d);
    });
    this.legend();
  }

  axes(top, y, whole) {
    const label = (x, at, text, anchor) => svg('text', { x, y: at, 'text-anchor': anchor }, text);
    const rows = [0, 0.5, 1].map((share) => {
      const at = y(top * share);
      return [svg('line', { x1: SIDE.left, x2: this.wide - SIDE.right, y1: at, y2: at }), label(SIDE.left - 6, at + 4, this.show(top * share), 'end')];
    });
    const step = whole / (whole === 300 ? 5 : 4);
    const columns = [4, 3, 2, 1, 0].filter((steps) => steps * step < whole).map((steps) => {
      const x = this.wide - SIDE.right - ((steps * step) / whole) * (this.wide - SIDE.left - SIDE.right);
      const time = whole > 120 ? `−${(steps * step) / 60} min` : `−${steps * step} s`;
      return label(x, HIGH - 5, steps ? time : 'now', steps ? 'middle' : 'end');
    });
    this.grid.replaceChildren(...rows.flat(), ...columns);
  }

  point(event) {
    const box = this.plot.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * this.wide;
    let best = null;
    (this.sets[0] ?? []).forEach((point, at) => {
      if (best === null || Math.abs(this.x(point.at) - x) < Math.abs(this.x(this.sets[0][best].at) - x)) best = at;
    });
    this.picked = best === null ? null : this.sets[0][best].at;
    this.legend();
  }

  legend() {
    const first = this.sets[0] ?? [];
    let at = this.picked ? first.findIndex((point) => point.at === this.picked) : -1;
    const picked = at >= 0;
    if (!picked) at = first.length - 1;
    this.values.forEach((node, line) => {
      const value = this.sets[line]?.[at]?.value;
      node.textContent = value === null || value === undefined ? '–' : this.show(value);
    });
    this.at.textContent = picked ? new Date(first[at].at).toLocaleTimeString('en-GB') : '';
    this.cross.classList.toggle('shown', picked);
    if (picked) for (const end of ['x1', 'x2']) this.cross.setAttribute(end, this.x(first[at].at));
  }
}

/** The next round number. */
function nice(value) {
  const scale = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 10].map((step) => step * scale).find((step) => step >= value * 0.999);
}

/** What each phase of an exchange is, in order. */
const PHASES = [
  ['accept', 'Accepted, waiting for a request'], ['tls', 'TLS handshake'], ['head', 'Request head'],
  ['held', 'Held by a rate limit'], ['queue', 'Waiting for an endpoint'], ['connect', 'Connecting'],
  ['first_byte', 'Waiting for the response'], ['transfer', 'Passing it on'],
];

/** The phases of one exchange, one behind the other. */
export function waterfall(phases, whole) {
  const known = PHASES.filter(([name]) => phases[name] !== undefined);
  const others = Object.keys(phases).filter((name) => !PHASES.some(([known]) => known === name)).map((name) => [name, name]);
  const all = [...known, ...others];
  // What came before the request is no part of its time.
  const length = Math.max(whole, all.reduce((sum, [name]) => sum + phases[name], 0), 1e-6);
  let begin = 0;
  const rows = all.map(([name, words]) => {
    const time = phases[name];
    const bar = el(`i.${name}`);
    bar.style.marginInlineStart = `${(begin / length) * 100}%`;
    bar.style.inlineSize = `${Math.max((time / length) * 100, 0.4)}%`;
    begin += time;
    return el('tr', el('th', { scope: 'row' }, words), el('td.bar', bar), el('td.number', seconds(time)));
  });
  rows.push(el('tr.sum', el('th', { scope: 'row' }, 'Request, from first to last byte'), el('td.bar'), el('td.number', seconds(whole))));
  return el('table.waterfall', el('caption.hidden', 'Phases of the request'), el('tbody', rows));
}
