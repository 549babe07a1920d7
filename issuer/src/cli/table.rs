//! Lists as people read them: a header, and columns below each other.

use std::iter;

use serde::Serialize;

use super::client::Failure;
use super::{print, print_json};

/// Shows a list: each thing as JSON on a line of its own, or as a row of a
/// table. Nothing for none.
pub(super) fn show_list<T: Serialize, const N: usize>(
    things: &[T],
    json: bool,
    header: [&str; N],
    row: impl Fn(&T) -> [String; N],
) -> Result<(), Failure> {
    if json {
        return things.iter().try_for_each(print_json);
    }
    let rows: Vec<_> = things.iter().map(row).collect();
    print(&table(header, &rows))
}

fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let header = header.map(str::to_owned);
    let rows = || iter::once(&header).chain(rows);
    let mut widths = [0; N];
    for row in rows() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; N]| {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_stand_below_each_other_and_nothing_trails() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned);
        assert_eq!(
            table(["ID", "TOPIC", "NOTE"], &[row(["a", "hälle", ""]), row(["pump-1", "x", "new"])]),
            "ID      TOPIC  NOTE\na       hälle\npump-1  x      new\n"
        );
        assert_eq!(table(["ID"], &[]), "");
    }
}
