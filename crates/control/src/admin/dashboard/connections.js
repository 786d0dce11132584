// Open client connections and WebSockets.

import { get, has, may, order, part } from './data.js';
import { Table, ago, ask, bytes, card, count, el, put, same, seconds, settled, tell } from './ui.js';

/** Seconds between two looks at the lists. */
const EVERY = 4;

export class Connections {
  constructor() {
    this.client = '';
    const type = settled((event) => { this.client = event.target.value.trim(); this.look(); }, 400);
    this.search = el('input', { type: 'search', placeholder: 'Client address', 'aria-label': 'Only connections of this client address', oninput: type });
    this.wrong = el('p.note.bad', { role: 'alert', hidden: true });
    const close = (path) => (row) => (may('operator') ? same(`${row.id} ${row.closing}`, () => closer(path, row, () => this.look())) : '');
    this.list = new Table('Open connections', [
      { name: 'peer', title: 'Client', show: (row) => row.peer ?? 'Unix socket', sort: (row) => row.peer ?? '' },
      { name: 'protocol', title: 'Protocol', show: (row) => `${row.protocol}${row.tls ? ` · ${row.tls.version}` : ''}`, sort: (row) => row.protocol },
      { name: 'doing', title: 'Doing', show: (row) => `${row.doing} for ${seconds(row.doing_for)}`, sort: (row) => row.doing },
      { name: 'site', title: 'Where', show: (row) => [row.site, row.route].filter(Boolean).join(' ') || '–', sort: (row) => row.site ?? '' },
      { name: 'requests', title: 'Requests', number: true, show: (row) => count(row.requests), sort: (row) => row.requests },
      { name: 'sent', title: 'Sent', number: true, show: (row) => bytes(row.response_bytes), sort: (row) => row.response_bytes },
      { name: 'age', title: 'Age', number: true, show: (row) => ago(row.since), sort: (row) => -new Date(row.since) },
      { name: 'close', title: '', show: close('/v1/connections') },
    ], (row) => row.id, { stack: true, empty: 'No connection is open.' });
    this.sockets = new Table('Open WebSockets', [
      { name: 'client', title: 'Client', show: (row) => row.request.client ?? '–', sort: (row) => row.request.client ?? '' },
      { name: 'target', title: 'Opened with', show: (row) => row.request.target ?? '', sort: (row) => row.request.target ?? '' },
      { name: 'endpoint', title: 'Endpoint', show: (row) => row.request.endpoint ?? '–', sort: (row) => row.request.endpoint ?? '' },
      { name: 'in', title: 'Received', number: true, show: (row) => bytes(row.received_bytes), sort: (row) => row.received_bytes },
      { name: 'out', title: 'Sent', number: true, show: (row) => bytes(row.sent_bytes), sort: (row) => row.sent_bytes },
      { name: 'age', title: 'Age', number: true, show: (row) => ago(row.since), sort: (row) => -new Date(row.since) },
      { name: 'close', title: '', show: close('/v1/websockets') },
    ], (row) => row.id, { stack: true, empty: 'No WebSocket is open.' });
    this.facts = el('p.facts', { role: 'status' });
    this.socketFacts = el('p.facts');
    this.more = el('button', { type: 'button', hidden: true, onclick: () => { this.limit += 200; this.look(); } }, 'Show more');
    this.limit = 200;
    this.node = el('div.view',
      el('div.row', this.search), this.wrong,
      card('Connections', this.facts, this.list.node, this.more),
      has('/v1/websockets') ? card('WebSockets', this.socketFacts, this.sockets.node) : null);
    this.looked = 0;
  }

  update() {
    if (Date.now() - this.looked >= EVERY * 1000) this.look();
  }

  async look() {
    this.looked = Date.now();
    const client = this.client ? `&client=${part(this.client)}` : '';
    try {
      const { total, connections, next } = await get(`/v1/connections?limit=${this.limit}${client}`);
      this.list.update(connections);
      put(this.facts, `${count(total)} open${connections.length < total ? `, ${count(connections.length)} shown` : ''}`);
      this.more.hidden = !next || this.limit >= 1000;
      if (has('/v1/websockets')) {
        const sockets = await get(`/v1/websockets?limit=200${client}`);
        this.sockets.update(sockets.websockets);
        put(this.socketFacts, `${count(sockets.total)} open`);
      }
      this.wrong.hidden = true;
    } catch (error) {
      put(this.wrong, error.message);
      this.wrong.hidden = false;
    }
  }
}

function closer(path, row, after) {
  if (row.closing) return el('span.why', 'ending');
  const what = path.endsWith('websockets') ? 'WebSocket' : 'connection';
  return el('button.plain', {
    type: 'button', 'aria-label': `End the ${what} of ${row.peer ?? row.request?.client ?? 'this client'}`,
    onclick: async (event) => {
      event.stopPropagation();
      const explained = what === 'WebSocket' ? 'The client is told that the server goes away.' : 'At once if it is idle, else after the request that is under way.';
      if (!await ask(`End this ${what}?`, explained, 'End it')) return;
      try {
        await order('DELETE', `${path}/${part(row.id)}`);
        tell(`The ${what} was told to end.`);
      } catch (error) {
        tell(error.message, 'bad');
      }
      after();
    },
  }, 'End');
}
