//! Whether a user may write where `read_only` is on.
//!
//! `SHOW GRANTS` shows every user its own privileges, and on both servers also those of the roles
//! that are active on the connection; the pools' connections begin with the same roles. (Rejected:
//! `information_schema.user_privileges`, which knows nothing of roles.)

/// Shows what [`privileges`] reads, in the only column of each row.
pub const GRANTS: &str = "SHOW GRANTS";

/// The privileges among these `grants` by which the user may write where `read_only` is on. `version` is
/// `@@version`.
///
/// MariaDB took the permission out of SUPER in 10.11.0 (MDEV-29596), and an upgrade grants it to
/// users with SUPER as a privilege of its own.
pub fn privileges<'g>(
    grants: impl IntoIterator<Item = &'g str>,
    version: &str,
) -> Vec<&'static str> {
    let is_mariadb = version.to_ascii_lowercase().contains("mariadb");
    let unbinding: &[&'static str] = match is_mariadb {
        true if release(version) >= (10, 11) => &["READ_ONLY ADMIN", "READ ONLY ADMIN"],
        true => &["SUPER", "READ_ONLY ADMIN", "READ ONLY ADMIN"],
        false => &["SUPER", "CONNECTION_ADMIN"],
    };
    let granted: Vec<&str> = grants.into_iter().flat_map(on_everything).collect();
    let has_all = granted.contains(&"ALL PRIVILEGES") || granted.contains(&"ALL");
    let has = |name: &&str| granted.contains(name);
    let mut found: Vec<_> = unbinding.iter().copied().filter(has).collect();
    if has_all && found.is_empty() {
        found.extend(unbinding.first());
    }
    found
}

/// The privileges that one line of `SHOW GRANTS` grants on everything. A line that grants a role names
/// it in quotes.
fn on_everything(line: &str) -> impl Iterator<Item = &str> {
    let granted = line.strip_prefix("GRANT ").and_then(|line| line.split_once(" ON *.* TO "));
    let granted = granted.map(|(names, _)| names).filter(|names| !names.contains(['`', '\'']));
    granted.into_iter().flat_map(|names| names.split(',').map(str::trim))
}

/// `11.8.6-MariaDB` is (11, 8).
fn release(version: &str) -> (u32, u32) {
    let mut numbers = version.split(['.', '-']).map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const MARIADB: &str = "11.8.6-MariaDB-0+deb13u1";
    const OLD_MARIADB: &str = "10.6.21-MariaDB";
    const MYSQL: &str = "9.7.4";

    #[rstest]
    #[case::of_mysql(MYSQL, "GRANT SELECT, SUPER ON *.* TO `app`@`%`", &["SUPER"])]
    #[case::dynamic(MYSQL, "GRANT CONNECTION_ADMIN ON *.* TO `app`@`%`", &["CONNECTION_ADMIN"])]
    #[case::ordinary(MYSQL, "GRANT USAGE ON *.* TO `app`@`%`", &[])]
    #[case::on_a_database(MYSQL, "GRANT ALL PRIVILEGES ON `app`.* TO `app`@`%`", &[])]
    #[case::role(MYSQL, "GRANT `SUPER ON *.* TO x`@`%` TO `app`@`%`", &[])]
    #[case::everything(MARIADB, "GRANT ALL PRIVILEGES ON *.* TO `app`@`%`", &["READ_ONLY ADMIN"])]
    #[case::with_password(
        MARIADB, "GRANT READ_ONLY ADMIN ON *.* TO `a`@`%` IDENTIFIED BY PASSWORD '*B6'",
        &["READ_ONLY ADMIN"]
    )]
    #[case::super_is_bound(MARIADB, "GRANT SUPER ON *.* TO `app`@`%`", &[])]
    #[case::super_was_not(OLD_MARIADB, "GRANT SUPER ON *.* TO `app`@`%`", &["SUPER"])]
    #[case::something_else(MARIADB, "SET DEFAULT ROLE `bypass` FOR `app`@`%`", &[])]
    fn a_privilege_counts_where_read_only_does_not_bind_it(
        #[case] version: &str,
        #[case] grant: &str,
        #[case] wanted: &[&str],
    ) {
        assert_eq!(privileges([grant], version), wanted);
    }

    #[test]
    fn lines_of_roles_count_as_well() {
        let lines = ["GRANT `bypass` TO `a`@`%`", "GRANT READ_ONLY ADMIN ON *.* TO `bypass`"];
        assert_eq!(privileges(lines, MARIADB), ["READ_ONLY ADMIN"]);
    }
}
