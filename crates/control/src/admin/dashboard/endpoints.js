// Endpoints: what they are and why, what they do, and what an operator says of them.

import { key, lately, look, may, order, part, store } from './data.js';
import { numbers, tone } from './overview.js';
import { Table, ago, ask, badge, bytes, card, count, el, put, same, seconds, settled, tell } from './ui.js';

const WORDS = {
  enable: ['Ready', 'is ready'],
  drain: ['Drain', 'is drained'],
  maintenance: ['Maintenance', 'is in maintenance'],
};

export class Endpoints {
  constructor() {
    this.pools = new Map();
    this.filter = '';
    const type = settled((event) => { this.filter = event.target.value.toLowerCase(); this.update(); });
    this.search = el('input', { type: 'search', placeholder: 'Filter endpoints', 'aria-label': 'Filter endpoints by pool, name or state', oninput: type });
    this.list = el('div.stack');
    this.node = el('div.view', el('div.row', this.search), this.list);
  }

  show(pool) {
    if (pool) this.search.value = this.filter = pool.toLowerCase();
  }

  update() {
    const fits = (pool, one) => !this.filter || `${pool.name} ${one.name} ${one.status} ${one.url}`.toLowerCase().includes(this.filter);
    const seen = new Set();
    for (const pool of store.pools) {
      const rows = pool.endpoints.filter((one) => fits(pool, one));
      if (!rows.length) continue;
      seen.add(pool.name);
      let shown = this.pools.get(pool.name);
      if (!shown) {
        shown = this.pool(pool);
        this.pools.set(pool.name, shown);
      }
      if (!shown.node.isConnected) this.list.append(shown.node);
      const breaker = pool.breaker ? ` · breaker ${pool.breaker}` : '';
      const limit = pool.max_in_flight ? ` of ${count(pool.max_in_flight)}` : '';
      put(shown.facts, `site ${pool.site} · ${count(pool.in_flight)}${limit} under way · ${count(pool.waiting)} waiting${breaker}`);
      const pick = (one) => (look) => look.endpointsBy.get(key(pool.site, pool.configured_name, one.url));
      shown.table.update(rows.map((one) => ({ ...one, recent: lately(pick(one)) })));
    }
    for (const [name, shown] of this.pools) if (!seen.has(name)) shown.node.remove();
    this.list.classList.toggle('none', seen.size === 0);
  }

  pool(pool) {
    const facts = el('p.facts');
    const table = new Table(`Endpoints of ${pool.name}`, [
      { name: 'name', title: 'Endpoint', show: (row) => row.name, sort: (row) => row.name },
      { name: 'status', title: 'State', wide: true, show: (row) => state(row), sort: (row) => row.status },
      { name: 'flight', title: 'Under way', number: true, show: (row) => (row.max_conns ? `${row.in_flight} / ${row.max_conns}` : String(row.in_flight)), sort: (row) => row.in_flight },
      ...numbers((row) => row.recent),
      { name: 'failures', title: 'Failed', number: true, show: (row) => count(row.connect_errors + row.response_errors), sort: (row) => row.connect_errors + row.response_errors },
      { name: 'out', title: 'Received', number: true, show: (row) => bytes(row.bytes_in), sort: (row) => row.bytes_in },
      { name: 'weight', title: 'Weight', number: true, show: (row) => weight(row, pool), sort: (row) => row.weight },
      ...(may('operator') ? [{ name: 'act', title: 'Set', wide: true, show: (row) => controls(row, pool) }] : []),
    ], (row) => row.name, { stack: true, tone: (row) => (tone(row.status) === 'bad' ? 'wrong' : '') });
    return { facts, table, node: card(pool.name, facts, table.node) };
  }
}

function state(row) {
  const rest = row.ejected_for ?? row.left_out_for;
  const left = rest ? `, ${seconds(rest)} to go` : '';
  // What has no word of its own beside the time does not change with every look.
  const is = `${row.status} ${row.why} ${left} ${Math.floor(Date.now() / 10_000)} ${row.since}`;
  return same(is, () => el('div.state',
    badge(row.status, tone(row.status)), el('span.since', ` for ${ago(row.since)}`),
    row.why ? el('span.why', row.why + left) : null,
    row.priority > 0 ? el('span.why', 'backup') : null));
}

function weight(row, pool) {
  const own = row.weight === row.configured_weight;
  if (!may('operator')) return own ? String(row.weight) : `${row.weight} (configured ${row.configured_weight})`;
  return same(`${row.weight} ${row.configured_weight}`, () => {
    const input = el('input.weight', {
      type: 'number', min: 0, max: 65535, value: row.weight, 'aria-label': `Weight of ${row.name}, configured ${row.configured_weight}`,
      title: own ? 'As configured' : `Configured: ${row.configured_weight}`,
    });
    input.addEventListener('change', () => {
      const text = input.value.trim();
      const value = text === '' ? null : Number(text);
      if (value !== null && !(Number.isInteger(value) && value >= 0)) return;
      act(row, pool, 'PUT', 'weight', { weight: value }, value === null ? 'has its configured weight' : `has weight ${value}`);
    });
    if (!own) input.classList.add('changed');
    return input;
  });
}

function controls(row, pool) {
  const now = row.status === 'maint' ? 'maintenance' : row.status === 'drain' ? 'drain' : 'enable';
  return same(now, () => el('div.row.controls', Object.entries(WORDS).map(([what, [word, done]]) => el('button', {
    type: 'button', 'aria-pressed': String(what === now), 'aria-label': `${word} ${row.name}`, 'data-act': what,
    onclick: async (event) => {
      event.stopPropagation();
      if (what === now) return;
      const explained = {
        drain: 'No new clients will be sent to it. Requests under way and clients that stick to it go on.',
        maintenance: 'No request will be sent to it, and its checks pause. Requests under way go on.',
      }[what];
      if (explained && !await ask(`${word} ${row.name}?`, explained, word)) return;
      act(row, pool, 'POST', what, undefined, done);
    },
  }, word))));
}

async function act(row, pool, method, what, body, done) {
  try {
    await order(method, `/v1/endpoints/${part(pool.name)}/${part(row.name)}/${what}`, body);
    tell(`${row.name} ${done}.`);
    await look();
    window.dispatchEvent(new Event('looked'));
  } catch (error) {
    tell(error.message, 'bad');
  }
}
