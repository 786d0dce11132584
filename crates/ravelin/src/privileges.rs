//! Who the process is once it has its sockets: `[process]` says which user, and every capability is given
//! up but for the one to bind low ports, if that is asked for.
//!
//! Linux keeps users, groups and capabilities by thread, and a thread inherits those of the one that
//! starts it. So this is done before there is a second thread, and fails if there is one; then it holds
//! for all that come.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::Path;

use config::model::Process;
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, set_capabilities, set_keep_capabilities,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::terminal::Failure;

/// Groups that one user is in; more than the kernel takes.
const GROUPS_MAX: usize = 65_536;

/// Where the admin socket of a system-wide process is.
const RUNTIME_DIRECTORY: &str = "/run/ravelin";

/// Whether [`give_up`] will change anything, so that sockets have to be bound before.
pub(crate) fn are_given_up(process: &Process) -> bool {
    let own = geteuid();
    let becomes_another = process.user.is_some() && own.is_root();
    let has_some = || capabilities(None).is_ok_and(|sets| !sets.permitted.is_empty());
    becomes_another || (!own.is_root() && has_some())
}

/// Becomes the user that `process` names, for good.
///
/// # Errors
/// There is no such user or group, or the process may not become it, or has threads already.
pub(crate) fn give_up(process: &Process) -> Result<(), Failure> {
    let account = process.user.as_deref().map(|user| Account::find(user, process.group.as_deref()));
    let account = account.transpose().map_err(|what| Failure::new(what, ADVICE))?;
    let own = geteuid();
    match account {
        Some(account) if own.is_root() && !account.uid.is_root() => {
            alone()?;
            prepare_runtime_directory(&account);
            account.become_it(process.keep_bind).map_err(|error| {
                let user = process.user.as_deref().unwrap_or_default();
                Failure::new(format!("cannot become the user {user}: {error}"), "")
            })
        }
        Some(account) if account.uid != own => {
            let user = process.user.as_deref().unwrap_or_default();
            let what = format!("cannot become the user {user} ({})", account.uid.as_raw());
            Err(Failure::new(what, "start Ravelin as root, or leave `user` out of `[process]`"))
        }
        // Whoever runs as root and says nothing of a user wants it so; others may have nothing to give up.
        _ if own.is_root() || !are_given_up(process) => Ok(()),
        _ => {
            alone()?;
            keep_at_most(process.keep_bind)
                .map_err(|error| Failure::new(format!("cannot give up capabilities: {error}"), ""))
        }
    }
}

const ADVICE: &str =
    "`useradd --system --no-create-home ravelin` makes a user; a number needs no entry anywhere";

/// A user with its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Account {
    uid: Uid,
    gid: Gid,
    others: Vec<Gid>,
}

impl Account {
    fn find(user: &str, group: Option<&str>) -> Result<Self, String> {
        // A number needs neither file.
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::among(user, group, &read("/etc/passwd"), &read("/etc/group"))
    }

    /// The account in the texts of `/etc/passwd` and `/etc/group`.
    fn among(user: &str, group: Option<&str>, users: &str, groups: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number != u32::MAX);
        let entry = |text: &str, name: &str| -> Option<Vec<String>> {
            let lines = text.lines().map(|line| line.split(':').map(str::to_owned).collect());
            let mut lines = lines.filter(|fields: &Vec<String>| fields.len() >= 3);
            let all: Vec<Vec<String>> = lines.by_ref().collect();
            let by_name = all.iter().find(|fields| fields[0] == name);
            by_name.or_else(|| all.iter().find(|fields| fields[2] == name)).cloned()
        };
        let known = entry(users, user);
        let field = |at: usize| number(known.as_ref()?.get(at)?);
        let uid = field(2).or_else(|| number(user));
        let uid = uid.ok_or_else(|| format!("there is no user \"{user}\" in /etc/passwd"))?;
        let others = match group {
            Some(_) => Vec::new(),
            None => {
                let name = known.as_ref().map_or(user, |fields| fields[0].as_str());
                let member = |line: &&str| {
                    line.rsplit(':').next().is_some_and(|all| all.split(',').any(|one| one == name))
                };
                let gids = groups
                    .lines()
                    .filter(member)
                    .filter_map(|line| number(line.split(':').nth(2)?).map(Gid::from_raw));
                gids.take(GROUPS_MAX).collect()
            }
        };
        let gid = match group {
            None => field(3).or_else(|| number(user)),
            Some(group) => {
                let known = entry(groups, group);
                let own = known.and_then(|fields| number(&fields[2])).or_else(|| number(group));
                Some(own.ok_or_else(|| format!("there is no group \"{group}\" in /etc/group"))?)
            }
        };
        let gid = gid.ok_or_else(|| format!("the user \"{user}\" has no group"))?;
        Ok(Self { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid), others })
    }

    /// Groups first: who is no longer root may not change them.
    fn become_it(&self, keep_bind: bool) -> io::Result<()> {
        set_keep_capabilities(keep_bind)?;
        set_thread_groups(&self.others)?;
        set_thread_res_gid(self.gid, self.gid, self.gid)?;
        set_thread_res_uid(self.uid, self.uid, self.uid)?;
        set_keep_capabilities(false)?;
        keep_at_most(keep_bind)
    }
}

/// Gives up every capability but the one to bind low ports, and that too unless `bind`. What is kept is
/// kept by a program that is executed, so that an upgrade has it too.
fn keep_at_most(bind: bool) -> io::Result<()> {
    let has = capabilities(None)?;
    let kept = match bind {
        true => has.permitted & CapabilitySet::NET_BIND_SERVICE,
        false => CapabilitySet::empty(),
    };
    clear_ambient_capability_set()?;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: kept };
    set_capabilities(None, sets)?;
    if !kept.is_empty() {
        configure_capability_in_ambient_set(CapabilitySet::NET_BIND_SERVICE, true)?;
    }
    Ok(())
}

/// What is changed here would not hold for other threads.
fn alone() -> Result<(), Failure> {
    let threads = fs::read_dir("/proc/self/task").map(Iterator::count);
    match threads {
        // Without /proc nobody can tell, and nothing before this starts a thread.
        Ok(1) | Err(_) => Ok(()),
        Ok(number) => {
            let what = format!("cannot change the user with {number} threads running");
            Err(Failure::new(what, "this is a mistake in Ravelin; leave `user` out of `[process]`"))
        }
    }
}

/// Only root can make it. Without it the admin socket is elsewhere.
fn prepare_runtime_directory(account: &Account) {
    let directory = Path::new(RUNTIME_DIRECTORY);
    if std::env::var_os("RUNTIME_DIRECTORY").is_none() && fs::create_dir_all(directory).is_ok() {
        let (uid, gid) = (account.uid.as_raw(), account.gid.as_raw());
        let _ = chown(directory, Some(uid), Some(gid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nravelin:x:990:980::/nonexistent:/bin/false\n\
                         nobody:x:65534:65534::/:/bin/false\nbroken\n";
    const GROUPS: &str = "root:x:0:\nravelin:x:980:\nssl-cert:x:110:www,ravelin\n\
                          adm:x:4:ravelinx\nlogs:x:111:ravelin\nnobody\n";

    fn account(user: &str, group: Option<&str>) -> Result<(u32, u32, Vec<u32>), String> {
        let found = Account::among(user, group, USERS, GROUPS)?;
        let others = found.others.iter().map(|one| one.as_raw()).collect();
        Ok((found.uid.as_raw(), found.gid.as_raw(), others))
    }

    #[test]
    fn a_user_has_its_own_groups_unless_one_is_named() {
        assert_eq!(account("ravelin", None), Ok((990, 980, vec![110, 111])));
        assert_eq!(account("990", None), Ok((990, 980, vec![110, 111])));
        assert_eq!(account("ravelin", Some("ssl-cert")), Ok((990, 110, vec![])));
        assert_eq!(account("ravelin", Some("12")), Ok((990, 12, vec![])));
        assert_eq!(account("1234", None), Ok((1234, 1234, vec![])));
        assert_eq!(account("nobody", None), Ok((65534, 65534, vec![])));
    }

    #[test]
    fn who_is_not_there_is_nobody() {
        assert!(account("www-data", None).unwrap_err().contains("no user \"www-data\""));
        assert!(account("ravelin", Some("www")).unwrap_err().contains("no group \"www\""));
        assert!(account("broken", None).is_err());
        assert!(account("-1", None).is_err());
        assert!(account("4294967295", None).is_err());
    }
}
