// Traffic by site and route.

import { Chart } from './charts.js';
import { lately, now, series, total } from './data.js';
import { numbers } from './overview.js';
import { Table, bytes, card, count, el, put, rate, seconds, settled } from './ui.js';

const sum = (classes) => classes.reduce((all, one) => all + one, 0);

/** Rows of a table: what they are, where they are found in a look, and what happened lately. */
const extra = [
  { name: 'in', title: 'In', number: true, show: (row) => `${bytes(row.recent?.in)}/s`, sort: (row) => row.recent?.in ?? 0 },
  { name: 'out', title: 'Out', number: true, show: (row) => `${bytes(row.recent?.out)}/s`, sort: (row) => row.recent?.out ?? 0 },
  { name: 'all', title: 'Total', number: true, show: (row) => count(row.all), sort: (row) => row.all },
];

export class Traffic {
  constructor() {
    this.picked = null;
    const pick = (row) => this.choose(row);
    const tone = (row) => (this.picked?.key === row.key ? 'picked' : '');
    this.sites = new Table('Traffic by site', [
      { name: 'site', title: 'Site', show: (row) => row.site, sort: (row) => row.site },
      ...numbers((row) => row.recent), ...extra,
    ], (row) => row.key, { pick, tone, empty: 'No requests yet.' });
    this.routes = new Table('Traffic by route', [
      { name: 'route', title: 'Route', show: (row) => row.route || '(none)', sort: (row) => row.route },
      { name: 'site', title: 'Site', show: (row) => row.site || '(none)', sort: (row) => row.site },
      ...numbers((row) => row.recent), ...extra,
      { name: 'sockets', title: 'Sockets', number: true, show: (row) => count(row.sockets), sort: (row) => row.sockets },
    ], (row) => row.key, { pick, tone, order: { name: 'rate', down: true }, empty: 'No requests yet.' });
    this.classes = new Chart('Requests a second by class of status', [
      { name: '2xx', tone: 's2' }, { name: '3xx', tone: 's3' }, { name: '4xx', tone: 's4' }, { name: '5xx', tone: 's5' },
    ], rate, true);
    this.times = new Chart('Latency percentiles', [
      { name: 'p50', tone: 'a' }, { name: 'p90', tone: 'b' }, { name: 'p99', tone: 'c' },
    ], seconds, false);
    this.title = el('p.subject', { role: 'status' });
    this.clear = el('button.plain', { type: 'button', onclick: () => this.choose(null), hidden: true }, 'Show all');
    this.filter = '';
    const type = settled((event) => { this.filter = event.target.value.toLowerCase(); this.update(); });
    const search = el('input', { type: 'search', placeholder: 'Filter routes', 'aria-label': 'Filter routes by site or path', oninput: type });
    this.node = el('div.view',
      el('div.row', this.title, this.clear),
      el('div.pair', card('Requests a second', this.classes.node), card('Latency', this.times.node)),
      card('By site', this.sites.node),
      card('By route', el('div.row', search), this.routes.node));
  }

  choose(row) {
    this.picked = row && this.picked?.key === row.key ? null : row;
    this.update();
  }

  update() {
    const look = now();
    const all = look.routes;
    const names = [...new Set(all.map((row) => row.site))].filter(Boolean);
    const sites = names.map((site) => {
      const pick = (one) => {
        const rows = one.routes.filter((row) => row.site === site);
        return rows.length ? total(rows) : undefined;
      };
      return { key: `site ${site}`, site, title: `Site ${site}`, pick, recent: lately(pick), all: sum(pick(look).classes) };
    });
    const routes = all.map((row) => {
      const key = `${row.site}\n${row.route}`;
      const pick = (one) => one.routesBy.get(key);
      return {
        key, site: row.site, route: row.route, title: `Route ${row.route || '(none)'} of ${row.site || '(none)'}`, pick,
        recent: lately(pick), all: sum(row.classes), sockets: row.sockets,
      };
    });
    this.sites.update(sites);
    const fits = (row) => !this.filter || `${row.site} ${row.route}`.toLowerCase().includes(this.filter);
    this.routes.update(routes.filter((row) => fits(row) && (row.all > 0 || row.route)));
    const pick = this.picked?.pick ?? ((one) => one.total);
    put(this.title, this.picked?.title ?? 'All sites and routes');
    this.clear.hidden = !this.picked;
    this.classes.update([2, 3, 4, 5].map((at) => series(pick, (one) => one.classes[at] + (at === 5 ? one.classes[0] : 0))));
    this.times.update(['p50', 'p90', 'p99'].map((name) => series(pick, (one) => one[name])));
  }
}
