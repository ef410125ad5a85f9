//! Which functions compute one value from many rows.

/// Whether the function `name` (in lower or upper case) computes one value from many rows.
pub(crate) fn is_aggregate(name: &str) -> bool {
    const AGGREGATES: &[&str] = &[
        "any_value",
        "array_agg",
        "avg",
        "bit_and",
        "bit_or",
        "bit_xor",
        "bool_and",
        "bool_or",
        "corr",
        "count",
        "every",
        "group_concat",
        "json_agg",
        "json_arrayagg",
        "json_group_array",
        "json_group_object",
        "json_object_agg",
        "json_objectagg",
        "jsonb_agg",
        "jsonb_object_agg",
        "max",
        "min",
        "mode",
        "percentile_cont",
        "percentile_disc",
        "std",
        "stddev",
        "stddev_pop",
        "stddev_samp",
        "string_agg",
        "sum",
        "total",
        "var_pop",
        "var_samp",
        "variance",
        "xmlagg",
    ];
    AGGREGATES.iter().any(|aggregate| aggregate.eq_ignore_ascii_case(name))
}
