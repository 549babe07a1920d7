//! Every table and column that is worth keeping, for those who copy a store
//! whole: backup, restore, and the move to another database.
//!
//! What only tells of the present is left out: the log of changes, and who is
//! connected, which validators tell anew.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::StoreError;

/// A table.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its columns, those that identify a row first.
    pub columns: &'static [Column],
    /// How many of them identify a row.
    pub key: usize,
}

/// A column.
#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What is in it.
    pub kind: Kind,
}

/// What is in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text that is compared byte for byte.
    Text,
    /// A JSON document: how it is laid out means nothing.
    Json,
    /// A whole number, or nothing.
    Integer,
    /// Bytes.
    Bytes,
}

const fn text(name: &'static str) -> Column {
    Column { name, kind: Kind::Text }
}

const fn json(name: &'static str) -> Column {
    Column { name, kind: Kind::Json }
}

const fn integer(name: &'static str) -> Column {
    Column { name, kind: Kind::Integer }
}

const fn bytes(name: &'static str) -> Column {
    Column { name, kind: Kind::Bytes }
}

/// The tables, each after those that it refers to.
pub const TABLES: [Table; 14] = [
    Table {
        name: "state",
        columns: &[
            integer("one"),
            text("epoch"),
            integer("last_change"),
            integer("settings"),
            integer("signing_keys"),
            integer("statements_after"),
            integer("clock_high"),
            integer("max_token_lifetime_s"),
        ],
        key: 1,
    },
    Table {
        name: "groups",
        columns: &[text("name"), json("policy"), integer("created_at"), integer("updated_at")],
        key: 1,
    },
    Table {
        name: "devices",
        columns: &[
            text("name"),
            text("group_name"),
            text("status"),
            integer("revision"),
            json("document"),
            integer("created_at"),
        ],
        key: 1,
    },
    Table {
        name: "brokers",
        columns: &[
            text("name"),
            text("resource"),
            integer("revision"),
            json("document"),
            integer("created_at"),
        ],
        key: 1,
    },
    Table {
        name: "names",
        columns: &[text("name"), text("folded"), text("client"), integer("taken_at")],
        key: 1,
    },
    Table { name: "device_keys", columns: &[text("thumbprint"), text("device")], key: 1 },
    Table {
        name: "credential_uses",
        columns: &[text("client"), text("credential"), integer("last_used_at")],
        key: 2,
    },
    Table {
        name: "enrolments",
        columns: &[
            text("id"),
            bytes("token_hash"),
            integer("uses_left"),
            json("document"),
            integer("created_at"),
        ],
        key: 1,
    },
    Table { name: "used_jtis", columns: &[bytes("id"), integer("expires_at")], key: 1 },
    Table { name: "root_keys", columns: &[text("id"), integer("is_current")], key: 1 },
    Table {
        name: "terms",
        columns: &[integer("row"), text("issuer"), integer("propagation_bound_s")],
        key: 1,
    },
    Table {
        name: "signing_keys",
        columns: &[
            text("kid"),
            text("algorithm"),
            json("private"),
            integer("announced_at"),
            integer("active_at"),
            integer("retired_at"),
            integer("dropped_at"),
        ],
        key: 1,
    },
    Table {
        name: "revocations",
        columns: &[integer("id"), text("target"), json("document"), integer("expires_at")],
        key: 1,
    },
    Table {
        name: "reports",
        columns: &[
            text("broker"),
            text("instance"),
            text("secret"),
            json("document"),
            integer("reported_at"),
        ],
        key: 2,
    },
];

impl Table {
    /// The table of this name, if it is one that is kept.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        TABLES.iter().find(|table| table.name == name)
    }

    /// The names of its columns, as SQL lists them.
    pub(super) fn column_list(&self) -> String {
        self.columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ")
    }

    /// The names of the columns that identify a row, as SQL lists them.
    pub(super) fn key_list(&self) -> String {
        self.columns.iter().take(self.key).map(|column| column.name).collect::<Vec<_>>().join(", ")
    }
}

/// One row of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Of which.
    pub table: &'static Table,
    /// What is in its columns, in their order.
    pub cells: Vec<Cell>,
}

/// What is in one column of one row.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "as in Kind")]
pub enum Cell {
    Text(String),
    Json(Value),
    Integer(Option<i64>),
    Bytes(Vec<u8>),
}

/// What a store that is filled is told.
#[derive(Clone, Debug, PartialEq)]
pub enum ImportedRow {
    /// One more row.
    Row(Row),
    /// That was all: without it nothing is kept.
    End,
}

impl Row {
    /// As one JSON array: the table's name, then the cells.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let cells = self.cells.iter().map(|cell| match cell {
            Cell::Text(text) => Value::from(text.as_str()),
            Cell::Json(value) => value.clone(),
            Cell::Integer(number) => Value::from(*number),
            Cell::Bytes(bytes) => Value::from(URL_SAFE_NO_PAD.encode(bytes)),
        });
        std::iter::once(Value::from(self.table.name)).chain(cells).collect()
    }

    /// Reads what [`Row::to_json`] wrote.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`].
    pub fn from_json(value: Value) -> Result<Self, StoreError> {
        let corrupt = |reason: &str| StoreError::Corrupt { what: "row", reason: reason.into() };
        let Value::Array(values) = value else { return Err(corrupt("is no array")) };
        let mut values = values.into_iter();
        let table = values.next().and_then(|name| Table::named(name.as_str()?));
        let table = table.ok_or_else(|| corrupt("names no table that is known here"))?;
        let cells: Option<Vec<Cell>> =
            table.columns.iter().map(|column| Cell::from_json(column.kind, values.next()?)).collect();
        match (cells, values.next()) {
            (Some(cells), None) => Ok(Self { table, cells }),
            _ => Err(corrupt(&format!("of {} does not have that table's columns", table.name))),
        }
    }
}

impl Cell {
    fn from_json(kind: Kind, value: Value) -> Option<Self> {
        Some(match (kind, value) {
            (Kind::Text, Value::String(text)) => Self::Text(text),
            (Kind::Json, value) => Self::Json(value),
            (Kind::Integer, Value::Null) => Self::Integer(None),
            (Kind::Integer, value) => Self::Integer(Some(value.as_i64()?)),
            (Kind::Bytes, Value::String(text)) => Self::Bytes(URL_SAFE_NO_PAD.decode(text).ok()?),
            (Kind::Text | Kind::Bytes, _) => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_is_read_as_it_was_written_and_nothing_else_is_one() {
        let table = Table::named("signing_keys").unwrap();
        let cells = vec![
            Cell::Text("kid".into()),
            Cell::Text("ES256".into()),
            Cell::Json(json!({"sealed": {}})),
            Cell::Integer(Some(1)),
            Cell::Integer(Some(-2)),
            Cell::Integer(None),
            Cell::Integer(None),
        ];
        let row = Row { table, cells };
        assert_eq!(row.to_json(), json!(["signing_keys", "kid", "ES256", {"sealed": {}}, 1, -2, null, null]));
        assert_eq!(Row::from_json(row.to_json()).unwrap(), row);
        for wrong in [
            json!({}),
            json!([]),
            json!(["nowhere", 1]),
            json!(["device_keys", "a"]),
            json!(["device_keys", "a", "b", "c"]),
            json!(["device_keys", "a", 1]),
            json!(["device_keys", "a", null]),
            json!(["used_jtis", "?", 1]),
            json!(["used_jtis", "AA", 1.5]),
        ] {
            assert!(Row::from_json(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
