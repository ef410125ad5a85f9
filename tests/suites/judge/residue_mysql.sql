SELECT CONCAT_WS(', ',
    IF(RELEASE_ALL_LOCKS() > 0, 'a named lock', NULL),
    IF(LAST_INSERT_ID() > 0, 'a last insert id', NULL),
    IF(COALESCE(@a, @b, @x, @n, @r) IS NULL, NULL, 'a user variable')
)
