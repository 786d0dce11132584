//! How many workers to run: as many as the process may use cores, by affinity and by quota.
//!
//! Why it exists: a container usually sees every core of the machine and may use two of them. The
//! standard library rounds a quota down; a quota of one core and a half is worth two workers.

use std::fs;
use std::path::Path;

/// Workers to run: `configured`, or the smaller of the cores the process may run on and its cgroup's
/// CPU quota rounded up. At least 1.
pub fn worker_count(configured: Option<usize>) -> usize {
    configured.unwrap_or_else(|| affinity().min(quota().unwrap_or(usize::MAX))).max(1)
}

fn affinity() -> usize {
    rustix::thread::sched_getaffinity(None).map_or(1, |cores| cores.count() as usize)
}

/// The tightest quota between the process's cgroup and the root, in cores.
fn quota() -> Option<usize> {
    let memberships = fs::read_to_string("/proc/self/cgroup").ok()?;
    memberships.lines().filter_map(|line| quota_of(line, Path::new("/sys/fs/cgroup"))).min()
}

/// The quota of one line of `/proc/self/cgroup`, `id:controllers:path`, mounted below `mount`.
fn quota_of(membership: &str, mount: &Path) -> Option<usize> {
    let mut parts = membership.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let unified = controllers.is_empty();
    let mount = match unified {
        true => mount.to_path_buf(),
        false if controllers.split(',').any(|name| name == "cpu") => mount.join(controllers),
        false => return None,
    };
    // Inside a container the path may be one of the host's, which is not mounted here: levels that
    // cannot be read are passed over, and the root is the container's own.
    let levels = Path::new(path.trim_start_matches('/')).ancestors();
    levels
        .filter_map(|level| {
            let directory = mount.join(level);
            let read = |name| fs::read_to_string(directory.join(name)).ok();
            if unified {
                cores_v2(&read("cpu.max")?)
            } else {
                cores_v1(&read("cpu.cfs_quota_us")?, &read("cpu.cfs_period_us")?)
            }
        })
        .min()
}

/// `cpu.max` of cgroup v2: "quota period" in microseconds, or "max period".
fn cores_v2(cpu_max: &str) -> Option<usize> {
    let (quota, period) = cpu_max.trim().split_once(' ')?;
    cores_v1(quota, period)
}

/// The two files of cgroup v1; a quota of -1 is none.
fn cores_v1(quota: &str, period: &str) -> Option<usize> {
    let quota: usize = quota.trim().parse().ok()?;
    let period: usize = period.trim().parse().ok()?;
    if period == 0 { None } else { Some(quota.div_ceil(period)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_rounded_up() {
        assert_eq!(cores_v2("150000 100000\n"), Some(2));
        assert_eq!(cores_v2("50000 100000\n"), Some(1));
        assert_eq!(cores_v2("400000 100000\n"), Some(4));
        assert_eq!(cores_v1("250000\n", "100000\n"), Some(3));
    }

    #[test]
    fn no_quota_is_no_limit() {
        assert_eq!(cores_v2("max 100000\n"), None);
        assert_eq!(cores_v1("-1\n", "100000\n"), None);
        assert_eq!(cores_v1("100000\n", "0\n"), None);
        assert_eq!(cores_v2(""), None);
    }

    #[test]
    fn the_tightest_level_of_the_hierarchy_holds() {
        let mount = std::env::temp_dir().join(format!("ravelin-cores-{}", std::process::id()));
        fs::create_dir_all(mount.join("slice/unit")).unwrap();
        fs::write(mount.join("slice/cpu.max"), "300000 100000\n").unwrap();
        fs::write(mount.join("slice/unit/cpu.max"), "max 100000\n").unwrap();
        assert_eq!(quota_of("0::/slice/unit", &mount), Some(3));
        assert_eq!(quota_of("0::/elsewhere", &mount), None);
        assert_eq!(quota_of("3:memory:/slice", &mount), None);
        fs::create_dir_all(mount.join("cpu,cpuacct")).unwrap();
        fs::write(mount.join("cpu,cpuacct/cpu.cfs_quota_us"), "120000\n").unwrap();
        fs::write(mount.join("cpu,cpuacct/cpu.cfs_period_us"), "100000\n").unwrap();
        assert_eq!(quota_of("4:cpu,cpuacct:/docker/not-mounted-here", &mount), Some(2));
        fs::remove_dir_all(&mount).unwrap();
    }

    #[test]
    fn what_is_configured_wins_and_there_is_at_least_one() {
        assert_eq!(worker_count(Some(7)), 7);
        assert_eq!(worker_count(Some(0)), 1);
        assert!(worker_count(None) >= 1);
    }
}
