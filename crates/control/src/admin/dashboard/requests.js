// Requests: as they end, and those that the recorder has; each with its phases.

import { waterfall } from './charts.js';
import { at, get, has, part } from './data.js';
import { badge, bytes, el, nothing, put, seconds, settled, tell, when } from './ui.js';

/** Lines that are kept on the page. */
const KEPT = 200;
/** Requests a second of each worker that are followed. */
const RATE = 50;
/** Seconds until it is tried again after the first failure, and at most; twice as many after each. */
const [AGAIN, AGAIN_MAX] = [1, 30];

const KINDS = [['live', 'Live'], ['last', 'Last'], ['failed', 'Failed'], ['slow', 'Slowest']];

const HELP = 'status>=500, site=="main", method=="POST" && total>1s …';

export class Requests {
  constructor() {
    this.kind = has('/v1/events') ? 'live' : 'last';
    this.filter = '';
    this.held = false;
    this.lines = [];
    /** Which beginning it is: what earlier ones asked for is no longer wanted. */
    this.run = 0;
    this.failures = 0;
    /** Nothing is under way: what was asked for was refused, and would be again. */
    this.refused = false;
    const type = settled((event) => { this.filter = event.target.value.trim(); this.begin(); }, 500);
    this.search = el('input.grow', { type: 'search', placeholder: HELP, 'aria-label': 'Filter requests by a condition', spellcheck: 'false', autocapitalize: 'off', oninput: type });
    const kinds = KINDS.filter(([kind]) => kind !== 'live' || has('/v1/events'));
    this.kinds = kinds.map(([kind, title]) => el('button', { type: 'button', 'aria-pressed': String(kind === this.kind), onclick: () => this.choose(kind) }, title));
    this.holder = el('button', { type: 'button', 'aria-pressed': 'false', 'aria-keyshortcuts': 'p', onclick: () => this.hold() }, 'Hold');
    this.status = el('p.facts', { role: 'status' });
    this.wrong = el('p.note.bad', { role: 'alert', hidden: true });
    this.body = el('tbody');
    const heads = ['Time', 'Status', 'Request', 'Where', 'Took', 'Sent'];
    this.table = el('table.requests', el('caption.hidden', 'Requests'),
      el('thead', el('tr', heads.map((head, at) => el(at >= 4 ? 'th.number' : 'th', { scope: 'col' }, head)))), this.body);
    this.empty = nothing('No request has ended yet.');
    this.node = el('div.view',
      el('div.row', el('div.group', { role: 'group', 'aria-label': 'Which requests' }, this.kinds), this.holder, this.search),
      this.wrong, this.status,
      el('div.table', { tabindex: '0', role: 'region', 'aria-label': 'Requests' }, this.table, this.empty));
  }

  show() {
    if (!this.source && !this.timer && !this.retry) this.begin();
  }

  hide() {
    this.end();
  }

  update() {}

  choose(kind) {
    this.kind = kind;
    const titles = Object.fromEntries(KINDS);
    for (const button of this.kinds) button.setAttribute('aria-pressed', String(button.textContent === titles[kind]));
    this.begin();
  }

  /** Holds the list still, or follows again. */
  hold() {
    this.held = !this.held;
    this.holder.setAttribute('aria-pressed', String(this.held));
    this.holder.textContent = this.held ? 'Follow' : 'Hold';
    this.count();
  }

  /** Ends what is under way; its callbacks do nothing any more. */
  end() {
    this.run += 1;
    this.source?.close();
    this.source = null;
    clearInterval(this.timer);
    this.timer = null;
    clearTimeout(this.retry);
    this.retry = null;
  }

  begin() {
    this.end();
    this.lines = [];
    this.body.replaceChildren();
    this.missed = 0;
    this.failures = 0;
    this.lost = null;
    this.gap = '';
    this.refused = false;
    this.wrong.hidden = true;
    this.load();
  }

  /** Shows what the recorder has, and goes on from there. */
  async load() {
    const mine = this.run;
    this.holder.hidden = this.kind !== 'live';
    const filter = this.filter ? `&filter=${part(this.filter)}` : '';
    try {
      // What is wrong with a filter is told here; a stream only breaks off.
      const which = this.kind === 'live' ? 'last' : this.kind;
      const { requests } = await get(`/v1/requests?which=${which}&limit=${this.kind === 'live' ? 50 : 100}${filter}`);
      if (mine !== this.run) return;
      this.wrong.hidden = true;
      this.failures = 0;
      this.lost = null;
      for (const one of requests.reverse()) this.add(one);
      this.count();
    } catch (error) {
      if (mine !== this.run) return;
      put(this.wrong, error.message);
      this.wrong.hidden = false;
      this.refused = isRefusal(error);
      if (this.refused) this.count();
      else this.later(() => this.load());
      return;
    }
    if (this.kind === 'live') this.follow(filter);
    else this.timer = setInterval(() => this.again(which(this.kind), filter), 5000);
  }

  follow(filter) {
    const mine = this.run;
    const source = new EventSource(at(`/v1/events?rate=${RATE}${filter}`));
    const on = (name, act) => source.addEventListener(name, (event) => {
      if (mine !== this.run) return;
      act(event);
      this.count();
    });
    on('open', () => this.connected());
    on('exchange', (event) => {
      if (this.held) this.missed += 1;
      else this.add(JSON.parse(event.data));
    });
    on('missed', (event) => { this.missed += JSON.parse(event.data).missed; });
    // A browser tries again by itself after some failures only, and not ever more slowly.
    on('error', () => this.later(() => this.follow(filter)));
    this.source = source;
    this.count();
  }

  connected() {
    this.failures = 0;
    if (this.lost) this.gap = ` · nothing of ${when(this.lost)} to ${when(new Date())}`;
    this.lost = null;
  }

  /** Does it after a pause, which is longer each time. */
  later(act) {
    this.end();
    this.lost ??= new Date();
    const pause = Math.min(AGAIN_MAX, AGAIN * 2 ** this.failures);
    this.failures += 1;
    const then = () => {
      this.retry = null;
      act();
    };
    this.retry = setTimeout(then, pause * 1000);
    this.pause = pause;
    this.count();
  }

  async again(kind, filter) {
    if (document.hidden) return;
    const mine = this.run;
    try {
      const { requests } = await get(`/v1/requests?which=${kind}&limit=100${filter}`);
      if (mine !== this.run || this.body.querySelector('tr.more')) return;
      this.lines = [];
      this.body.replaceChildren();
      for (const one of requests.reverse()) this.add(one);
      this.count();
    } catch (error) {
      if (mine === this.run) tell(error.message, 'bad');
    }
  }

  count() {
    this.empty.hidden = this.lines.length > 0 || this.refused;
    this.table.hidden = this.lines.length === 0;
    const open = this.source?.readyState === EventSource.OPEN;
    const follows = this.kind !== 'live' || this.refused ? '' : this.held ? 'held · ' : open ? 'following · ' : 'connecting · ';
    const state = this.retry ? `not connected, next attempt after ${this.pause} s · ` : follows;
    const missed = this.missed ? ` · ${this.missed} not shown` : '';
    put(this.status, `${state}${this.lines.length} shown${missed}${this.gap}`);
  }

  add(one) {
    const tone = one.status >= 500 || one.status === 0 ? 'bad' : one.status >= 400 ? 'warn' : one.status >= 300 ? 'calm' : 'good';
    const bar = el('i');
    const row = el('tr.picks', { tabindex: '0', 'aria-expanded': 'false' },
      el('td.time', when(one.time)),
      el('td', badge(one.status || '–', tone)),
      el('th', { scope: 'row' }, el('b', one.method ?? '–'), ' ', el('span.target', one.target ?? '')),
      el('td.where', [one.site, one.route].filter(Boolean).join(' '), one.endpoint ? el('span.to', ` → ${one.endpoint.replace(/^\w+:\/\//, '')}`) : null),
      el('td.number.took', seconds(one.total), bar),
      el('td.number', bytes(one.response_bytes)));
    bar.style.inlineSize = `${Math.min(100, Math.max(2, 20 * Math.log10(1 + one.total * 1000)))}%`;
    const open = () => this.open(row, one);
    row.addEventListener('click', open);
    row.addEventListener('keydown', (event) => { if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); open(); } });
    this.body.prepend(row);
    this.lines.unshift(row);
    while (this.lines.length > KEPT) {
      const old = this.lines.pop();
      if (old.nextSibling?.classList.contains('more')) old.nextSibling.remove();
      old.remove();
    }
  }

  open(row, one) {
    const next = row.nextSibling;
    if (next?.classList.contains('more')) {
      next.remove();
      row.setAttribute('aria-expanded', 'false');
      return;
    }
    row.setAttribute('aria-expanded', 'true');
    row.after(el('tr.more', el('td', { colspan: '6' }, el('div.pair', waterfall(one.phases ?? {}, one.total), facts(one)))));
  }
}

/** Whether it would be refused again; anything else may pass. */
const isRefusal = (error) => error.status >= 400 && error.status < 500 && error.status !== 429;

const which = (kind) => (kind === 'live' ? 'last' : kind);

/** What else is known of it. */
function facts(one) {
  const ended = one.ended === 'complete' ? 'complete' : [one.ended, one.phase, one.cause].filter(Boolean).join(': ');
  const lines = [
    ['Ended', ended], ['Client', one.client && `${one.client}${one.client_port ? `:${one.client_port}` : ''}`],
    ['Host', one.host], ['User', one.user], ['User agent', one.user_agent], ['Protocol', one.protocol],
    ['TLS', one.tls && `${one.tls.version} ${one.tls.cipher}${one.tls.resumed ? ', resumed' : ''}`],
    ['Pool', one.pool], ['Endpoint', one.endpoint],
    ['Attempts', one.attempts && `${one.attempts}${one.reused ? ', on a kept connection' : ''}`],
    ['Received', bytes(one.request_bytes)], ['Request id', one.request_id],
  ];
  return el('dl', lines.filter(([, value]) => value).flatMap(([name, value]) => [el('dt', name), el('dd', value)]));
}
