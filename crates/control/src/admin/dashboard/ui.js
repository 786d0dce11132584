// Elements, tables, dialogs, and numbers for people. Nothing here takes text for markup.

/** An element: `el('p.note', { title: 'x' }, 'text', child)`. */
export function el(kind, ...rest) {
  const [tag, ...classes] = kind.split('.');
  const node = document.createElement(tag || 'div');
  if (classes.length) node.className = classes.join(' ');
  for (const part of rest.flat(Infinity)) {
    if (part === null || part === undefined || part === false) continue;
    if (part instanceof Node) node.append(part);
    else if (typeof part === 'object') attributes(node, part);
    else node.append(String(part));
  }
  return node;
}

function attributes(node, values) {
  for (const [name, value] of Object.entries(values)) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
}

/** An element of SVG. */
export function svg(tag, values = {}, ...children) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  attributes(node, values);
  node.append(...children);
  return node;
}

/** Puts `text` into `node` if it says something else. */
export function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A card with a heading. */
export function card(title, ...rest) {
  return el('section.card', { 'aria-label': title }, el('h2', title), ...rest);
}

/** A word for a state, with its colour. */
export function badge(word, tone) {
  return el(`span.badge.${tone}`, word);
}

/** What is shown where there is nothing. */
export const nothing = (text) => el('p.nothing', text);

/**
 * A table that is told its rows again and again. `columns`: `{ name, title, number, show(row), sort(row) }`;
 * `show` gives text or a node. `key(row)` says which row it is.
 */
export class Table {
  constructor(label, columns, key, options = {}) {
    Object.assign(this, { columns, key, options });
    this.order = options.order ?? null;
    this.lines = new Map();
    this.body = el('tbody');
    this.heads = columns.map((column) => this.head(column));
    this.table = el('table', el('caption.hidden', label), el('thead', el('tr', this.heads)), this.body);
    this.empty = nothing(options.empty ?? 'Nothing yet.');
    this.node = el(options.stack ? 'div.table.stacked' : 'div.table', { tabindex: '0', role: 'region', 'aria-label': label }, this.table, this.empty);
    this.empty.hidden = false;
  }

  head(column) {
    const head = el(column.number ? 'th.number' : 'th', { scope: 'col' });
    if (!column.sort) {
      head.append(column.title);
      return head;
    }
    const turn = () => {
      const same = this.order?.name === column.name;
      this.order = { name: column.name, down: same ? !this.order.down : Boolean(column.number) };
      this.update(this.rows ?? []);
    };
    head.append(el('button', { type: 'button', onclick: turn }, column.title));
    return head;
  }

  update(rows) {
    this.rows = rows;
    const by = this.columns.find((column) => column.name === this.order?.name);
    if (by) {
      const sign = this.order.down ? -1 : 1;
      rows = [...rows].sort((a, b) => sign * compare(by.sort(a), by.sort(b)));
    }
    this.columns.forEach((column, at) => {
      const sorted = column === by ? (this.order.down ? 'descending' : 'ascending') : null;
      if (sorted) this.heads[at].setAttribute('aria-sort', sorted);
      else this.heads[at].removeAttribute('aria-sort');
    });
    const seen = new Set();
    let before = null;
    for (const row of rows) {
      const key = this.key(row);
      seen.add(key);
      let line = this.lines.get(key);
      if (!line) {
        line = this.line();
        this.lines.set(key, line);
      }
      this.fill(line, row);
      const place = before ? before.nextSibling : this.body.firstChild;
      if (line.row !== place) this.body.insertBefore(line.row, place);
      before = line.row;
    }
    for (const [key, line] of this.lines) {
      if (!seen.has(key)) {
        line.row.remove();
        this.lines.delete(key);
      }
    }
    this.empty.hidden = rows.length > 0;
    this.table.hidden = rows.length === 0;
  }

  line() {
    const cells = this.columns.map((column, at) => el(
      (at === 0 ? 'th' : 'td') + (column.number ? '.number' : '') + (column.wide ? '.wide' : '') + (column.half ? '.half' : ''), at === 0 ? { scope: 'row' } : {},
      { 'data-title': column.title },
    ));
    const line = { row: el('tr', cells), cells, shown: [] };
    const { pick } = this.options;
    if (pick) {
      line.row.tabIndex = 0;
      line.row.classList.add('picks');
      line.row.addEventListener('click', () => pick(line.data, line));
      line.row.addEventListener('keydown', (event) => {
        if (event.key === 'Enter' && event.target === line.row) pick(line.data, line);
      });
    }
    return line;
  }

  fill(line, row) {
    line.data = row;
    const tone = this.options.tone?.(row) ?? '';
    if (line.tone !== tone) {
      if (line.tone) line.row.classList.remove(line.tone);
      if (tone) line.row.classList.add(tone);
      line.tone = tone;
    }
    this.columns.forEach((column, at) => {
      const shown = column.show(row);
      if (shown instanceof Node) {
        // Nodes say by their `data-is` what they show; one that shows the same stays, with its focus.
        const is = shown.dataset?.is;
        if (is !== undefined && is === line.shown[at]) return;
        line.shown[at] = is;
        line.cells[at].replaceChildren(shown);
      } else if (line.shown[at] !== String(shown)) {
        line.shown[at] = String(shown);
        line.cells[at].textContent = line.shown[at];
      }
    });
  }
}

function compare(a, b) {
  if (typeof a === 'string' || typeof b === 'string') return String(a).localeCompare(String(b), undefined, { numeric: true });
  return (a ?? -1) - (b ?? -1);
}

/** A node that need not be made again while it shows the same. */
export function same(is, make) {
  const node = make();
  node.dataset.is = is;
  return node;
}

/** Asks before something is done. Resolves to whether to do it. */
export function ask(question, explained, yes) {
  return new Promise((resolve) => {
    const end = (answer) => () => {
      dialog.close();
      dialog.remove();
      resolve(answer);
    };
    const dialog = el('dialog', { 'aria-label': question },
      el('h2', question), el('p', explained),
      el('div.row.end',
        el('button', { type: 'button', onclick: end(false) }, 'Cancel'),
        el('button.strong', { type: 'button', onclick: end(true) }, yes)));
    dialog.addEventListener('cancel', end(false));
    document.body.append(dialog);
    dialog.showModal();
  });
}

let told;
/** Tells what became of something that was asked for. */
export function tell(text, tone = 'good') {
  told?.remove();
  told = el(`p.toast.${tone}`, { role: tone === 'bad' ? 'alert' : 'status' }, text);
  document.body.append(told);
  const mine = told;
  setTimeout(() => mine.remove(), 6000);
}

const digits = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

/** `12,345`. */
export const count = (number) => digits.format(number ?? 0);

/** A rate: `0`, `0.4`, `12`, `3.4k`. */
export function rate(number) {
  if (!Number.isFinite(number) || number <= 0) return '0';
  if (number < 10) return number.toFixed(1);
  if (number < 1000) return number.toFixed(0);
  if (number < 1e6) return `${(number / 1000).toFixed(number < 10e3 ? 1 : 0)}k`;
  return `${(number / 1e6).toFixed(1)}M`;
}

/** Seconds: `250 µs`, `1.2 ms`, `3.4 s`. */
export function seconds(time) {
  if (time === null || time === undefined || !Number.isFinite(time)) return '–';
  if (time === 0) return '0';
  if (time < 0.001) return `${Math.round(time * 1e6)} µs`;
  if (time < 0.01) return `${(time * 1000).toFixed(1)} ms`;
  if (time < 1) return `${Math.round(time * 1000)} ms`;
  if (time < 60) return `${time.toFixed(1)} s`;
  return span(time);
}

/** A length of time in its two largest units: `3d 4h`, `5m 6s`. */
export function span(time) {
  const all = Math.max(0, Math.floor(time));
  const [d, h, m, s] = [Math.floor(all / 86400), Math.floor(all / 3600) % 24, Math.floor(all / 60) % 60, all % 60];
  if (d) return `${d}d ${h}h`;
  if (h) return `${h}h ${m}m`;
  if (m) return `${m}m ${s}s`;
  return `${s}s`;
}

/** Bytes: `1.2 kB`. */
export function bytes(number) {
  if (!number) return '0 B';
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  const at = Math.min(units.length - 1, Math.floor(Math.log10(number) / 3));
  const value = number / 1000 ** at;
  return `${value < 10 && at > 0 ? value.toFixed(1) : Math.round(value)} ${units[at]}`;
}

/** A share as per cent: `0`, `0.4 %`, `12 %`. */
export function percent(share) {
  if (!Number.isFinite(share) || share <= 0) return '0 %';
  const value = share * 100;
  return `${value < 0.1 ? '< 0.1' : value < 10 ? value.toFixed(1) : value.toFixed(0)} %`;
}

/** The time of day, with the date unless that is today. */
export function when(text) {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return '–';
  const time = date.toLocaleTimeString('en-GB');
  return date.toDateString() === new Date().toDateString() ? time : `${date.toISOString().slice(0, 10)} ${time}`;
}

/** The same as an element that is not broken into lines. */
export const moment = (text) => el('time.date', { datetime: text }, when(text));

/** How long ago. */
export const ago = (text) => span((Date.now() - new Date(text).getTime()) / 1000);

/** Calls `change` when typing has paused. */
export function settled(change, pause = 250) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => change(...values), pause);
  };
}
