// Certificates: for what, from whom, until when.

import { get } from './data.js';
import { days } from './overview.js';
import { Table, badge, card, el, moment, put, same, when } from './ui.js';

const WHERE = { file: 'file', configuration: 'configuration', authority: 'authority' };

export class Certificates {
  constructor() {
    this.wrong = el('p.note.bad', { role: 'alert', hidden: true });
    this.table = new Table('Certificates', [
      { name: 'names', title: 'Names', show: (row) => same(row.names.join(), () => names(row)), sort: (row) => row.names[0] ?? '' },
      { name: 'days', title: 'Left', number: true, show: (row) => same(`${row.days_left}`, () => badge(`${row.days_left} days`, days(row.days_left))), sort: (row) => row.days_left },
      { name: 'until', title: 'Valid until', show: (row) => same(row.not_after, () => el('time.date', { datetime: row.not_after }, row.not_after.slice(0, 10))), sort: (row) => row.not_after },
      { name: 'issuer', title: 'Issuer', show: (row) => (row.stand_in ? 'self-signed, until one is issued' : row.issuer), sort: (row) => row.issuer },
      { name: 'sites', title: 'Sites', show: (row) => row.sites.join(', '), sort: (row) => row.sites[0] ?? '' },
      { name: 'source', title: 'From', show: (row) => [WHERE[row.source], row.place].filter(Boolean).join(' '), sort: (row) => row.source },
      { name: 'renewal', title: 'Renewal', half: true, show: (row) => row.failure ?? (row.next_renewal ? same(when(row.next_renewal), () => moment(row.next_renewal)) : '–'), sort: (row) => row.next_renewal ?? '' },
      { name: 'stapled', title: 'OCSP', show: (row) => (row.stapled ? 'stapled' : '–') },
    ], (row) => `${row.serial} ${row.place} ${row.sites}`, {
      stack: true, order: { name: 'days', down: false }, empty: 'No site has TLS.', tone: (row) => (row.days_left < 7 || row.failure ? 'wrong' : ''),
    });
    this.node = el('div.view', this.wrong, card('Certificates', this.table.node));
    this.looked = 0;
  }

  async update() {
    if (Date.now() - this.looked < 15_000) return;
    this.looked = Date.now();
    try {
      this.table.update((await get('/v1/certificates')).certificates);
      this.wrong.hidden = true;
    } catch (error) {
      put(this.wrong, error.message);
      this.wrong.hidden = false;
    }
  }
}

function names(row) {
  const [first, ...rest] = row.names;
  return el('span', first ?? row.subject, rest.length ? el('span.why', rest.slice(0, 4).join(', ') + (rest.length > 4 ? `, and ${rest.length - 4} more` : '')) : null);
}
