// The first look: how much, how fast, how well, and what needs somebody.

import { Chart, Spark } from './charts.js';
import { get, has, lately, now, part, series, store, total } from './data.js';
import { Table, ago, badge, bytes, card, count, el, nothing, percent, put, rate, seconds, when } from './ui.js';

const everything = (look) => look.total;

/** Columns of numbers that sites, routes and endpoints have alike. `of(row)` gives what happened lately. */
export function numbers(of) {
  return [
    { name: 'rate', title: 'Req/s', number: true, show: (row) => rate(of(row)?.rate), sort: (row) => of(row)?.rate ?? 0 },
    { name: 'errors', title: 'Errors', number: true, show: (row) => percent(of(row)?.errors), sort: (row) => of(row)?.errors ?? 0 },
    { name: 'p50', title: 'p50', number: true, show: (row) => seconds(of(row)?.p50), sort: (row) => of(row)?.p50 ?? -1 },
    { name: 'p90', title: 'p90', number: true, show: (row) => seconds(of(row)?.p90), sort: (row) => of(row)?.p90 ?? -1 },
    { name: 'p99', title: 'p99', number: true, show: (row) => seconds(of(row)?.p99), sort: (row) => of(row)?.p99 ?? -1 },
  ];
}

/** The sites of the last look, each with what happened lately. */
export function sites() {
  const pick = (name) => (look) => {
    const rows = look.routes.filter((row) => row.site === name);
    return rows.length ? total(rows) : undefined;
  };
  const names = [...new Set(now().routes.map((row) => row.site))].filter(Boolean);
  return names.map((name) => ({ name, recent: lately(pick(name)) }));
}

/** What is wrong with endpoints, the worst first. */
export function troubled() {
  const order = ['down', 'unresolved', 'ejected', 'failing', 'maint', 'drain'];
  const all = store.pools.flatMap((pool) => pool.endpoints);
  return all.filter((one) => one.status !== 'up').sort((a, b) => order.indexOf(a.status) - order.indexOf(b.status));
}

/** The colour of an endpoint's state. */
export const tone = (status) => ({ up: 'good', drain: 'calm', maint: 'calm', ejected: 'warn', failing: 'warn' })[status] ?? 'bad';

class Tile {
  constructor(title, colour, explained) {
    this.value = el('p.value');
    this.more = el('p.more');
    this.spark = new Spark(colour);
    this.node = el('section.card.tile', { 'aria-label': title, title: explained }, el('h2', title), this.value, this.more, this.spark.node);
  }

  update(value, more, points) {
    put(this.value, value);
    put(this.more, more);
    this.spark.update(points);
  }
}

export class Overview {
  constructor() {
    this.requests = new Tile('Requests', 'a', 'Requests that came to their end, a second');
    this.errors = new Tile('Errors', 'bad', 'Responses of 5xx, and requests without a response');
    this.latency = new Tile('Latency', 'b', 'From the first byte of the request to the last of the response');
    this.open = new Tile('Connections', 'c', 'Client connections open');
    this.classes = new Chart('Requests a second by class of status', [
      { name: '2xx', tone: 's2' }, { name: '3xx', tone: 's3' }, { name: '4xx', tone: 's4' }, { name: '5xx', tone: 's5' },
    ], rate, true);
    this.times = new Chart('Latency percentiles', [
      { name: 'p50', tone: 'a' }, { name: 'p90', tone: 'b' }, { name: 'p99', tone: 'c' },
    ], seconds, false);
    this.sites = new Table('Sites', [
      { name: 'name', title: 'Site', show: (row) => row.name, sort: (row) => row.name },
      ...numbers((row) => row.recent),
    ], (row) => row.name, { empty: 'No requests yet.' });
    this.health = el('div');
    this.events = el('ol.events');
    this.soon = el('div');
    const after = has('/v1/timeline') ? card('What happened', this.events) : null;
    const certificates = has('/v1/certificates') ? card('Certificates', this.soon) : null;
    this.node = el('div.view',
      el('div.tiles', this.requests.node, this.errors.node, this.latency.node, this.open.node),
      el('div.pair', card('Requests a second', this.classes.node), card('Latency', this.times.node)),
      card('Sites', this.sites.node),
      el('div.pair', card('Health', this.health), certificates ?? after),
      certificates ? after : null);
    this.looked = 0;
  }

  update() {
    const recent = lately(everything);
    const last = now();
    const line = (value) => series(everything, value);
    this.requests.update(`${rate(recent.rate)}/s`, `${bytes(recent.in)}/s in · ${bytes(recent.out)}/s out`, line((one) => one.rate));
    this.errors.update(percent(recent.errors), `${percent(recent.refused)} refused (4xx)`, line((one) => one.errors));
    this.latency.update(seconds(recent.p50), `p90 ${seconds(recent.p90)} · p99 ${seconds(recent.p99)}`, line((one) => one.p90));
    this.open.update(count(last.connections), `requests under way: ${count(last.in_flight)}`, line((_, look) => look.connections));
    this.classes.update([2, 3, 4, 5].map((at) => line((one) => one.classes[at] + (at === 5 ? one.classes[0] : 0))));
    this.times.update(['p50', 'p90', 'p99'].map((name) => line((one) => one[name])));
    this.sites.update(sites());
    this.showHealth();
    if (Date.now() - this.looked > 10_000) {
      this.looked = Date.now();
      this.lookMore();
    }
  }

  showHealth() {
    const all = store.pools.flatMap((pool) => pool.endpoints);
    const wrong = troubled();
    const is = JSON.stringify(wrong.map((one) => [one.pool, one.name, one.status, one.why]));
    if (this.health.dataset.is === is && this.counted === all.length) return;
    this.health.dataset.is = is;
    this.counted = all.length;
    if (!all.length) return this.health.replaceChildren(nothing('Nothing is forwarded to endpoints.'));
    const fine = all.length - wrong.length;
    const line = (one) => el('li', badge(one.status, tone(one.status)), ' ', el('a', { href: `#endpoints/${part(one.pool)}` }, `${one.pool} / ${one.name}`), one.why ? el('span.why', one.why) : null);
    this.health.replaceChildren(
      el('p', badge(`${fine} of ${all.length} up`, wrong.some((one) => tone(one.status) === 'bad') ? 'bad' : wrong.length ? 'warn' : 'good')),
      el('ul.plain', wrong.slice(0, 12).map(line)));
    return undefined;
  }

  async lookMore() {
    try {
      if (has('/v1/timeline')) {
        const { messages } = await get('/v1/timeline?limit=8');
        const none = nothing('Nothing yet.');
        this.events.replaceChildren(...(messages.length ? messages.map(happened) : [none]));
      }
      if (has('/v1/certificates')) {
        const { certificates } = await get('/v1/certificates');
        const soon = certificates.sort((a, b) => a.days_left - b.days_left).slice(0, 6);
        const line = (one) => el('li', badge(`${one.days_left} days`, days(one.days_left)), ' ', one.names[0] ?? one.subject, el('span.why', one.issuer));
        this.soon.replaceChildren(soon.length ? el('ul.plain', soon.map(line)) : nothing('No site has TLS.'));
      }
    } catch { /* the next look says it */ }
  }
}

/** The colour of the days that a certificate has left. */
export const days = (left) => (left < 7 ? 'bad' : left < 21 ? 'warn' : 'good');

/** A message of the error log. */
export function happened(message) {
  const colour = { error: 'bad', warn: 'warn' }[message.level] ?? 'calm';
  return el('li', el('time', { datetime: message.time, title: `${ago(message.time)} ago` }, when(message.time)), badge(message.level, colour), el('span.text', message.text));
}
