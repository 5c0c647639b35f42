"""Numerical linear algebra on operators known by their products; torch and numpy only."""
